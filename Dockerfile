# The worker and the command line in one small image.
#   docker build -t millrace .
#   docker run --rm --entrypoint /millrace millrace --help
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o /out/worker ./worker \
 && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o /out/millrace ./starter \
 && mkdir /out/wal

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/worker /out/millrace /
# A volume that is mounted here belongs to the user the worker runs as.
COPY --from=build --chown=nonroot:nonroot /out/wal /var/lib/millrace/wal
ENTRYPOINT ["/worker"]
