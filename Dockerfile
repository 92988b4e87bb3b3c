# The worker and the command line in one small image, with the examples in /examples.
#   docker build -t millrace --build-arg VERSION=$(git describe --tags --always) .
#   docker run --rm --entrypoint /millrace millrace --help
FROM golang:1.26 AS build
# What `millrace version` says: the history that Go would read is not in the build context.
ARG VERSION=unknown
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X millrace/internal/build.version=$VERSION" -o /out/worker ./worker \
 && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X millrace/internal/build.version=$VERSION" -o /out/millrace ./starter \
 && mkdir /out/wal

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/worker /out/millrace /
COPY --from=build /src/examples /examples
# A volume that is mounted here belongs to the user the worker runs as. Nothing else is written: the rest may be read-only.
COPY --from=build --chown=nonroot:nonroot /out/wal /var/lib/millrace/wal
USER 65532:65532
ENTRYPOINT ["/worker"]
