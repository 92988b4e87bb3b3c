package codec

import (
	"context"
	"errors"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/proxy"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Apply has a client encrypt whatever it sends and decrypt whatever it is sent. That is done on the wire, below everything that reads
// or writes payloads: no reader of a history, of a memo or of a summary can forget it.
func (k *Keys) Apply(opts *client.Options) error {
	failures, err := proxy.NewFailureVisitorInterceptor(proxy.FailureVisitorInterceptorOptions{
		Inbound: &proxy.VisitFailuresOptions{Visitor: openFailure},
	})
	if err != nil {
		return err
	}
	inbound := &proxy.VisitPayloadsOptions{Visitor: k.open, SkipSearchAttributes: true}
	if k.Empty() { // what is packed once more is left alone: there is nothing to decrypt, only to say so
		inbound.WellKnownAnyVisitor = func(*proxy.VisitPayloadsContext, *anypb.Any) error { return nil }
	}
	payloads, err := proxy.NewPayloadVisitorInterceptor(proxy.PayloadVisitorInterceptorOptions{Inbound: inbound})
	if err != nil {
		return err
	}
	// The last of them is next to the wire: an answer's payloads are decrypted before texts are made of them.
	opts.ConnectionOptions.DialOptions = append(opts.ConnectionOptions.DialOptions,
		grpc.WithChainUnaryInterceptor(k.seal, failures, payloads))
	opts.DataConverter = converter.NewCompositeDataConverter(
		converter.NewNilPayloadConverter(), converter.NewByteSlicePayloadConverter(), converter.NewProtoJSONPayloadConverter(),
		converter.NewProtoPayloadConverter(), converter.NewJSONPayloadConverter(), stillEncrypted{},
	)
	return nil
}

// taskKey marks the context of a call whose answer is a task.
type taskKey struct{}

// seal is a gRPC interceptor that encrypts requests. Each is cloned before: the SDK sends the same message again when it has to.
func (k *Keys) seal(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	if msg, ok := req.(proto.Message); ok && !k.Empty() {
		clone := proto.Clone(msg)
		if err := k.sealMessage(ctx, clone); err != nil {
			return refused(err)
		}
		req = clone
	}
	if strings.Contains(method, "/Poll") {
		ctx = context.WithValue(ctx, taskKey{}, true)
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

// sealMessage encrypts all payloads of a request, after it has made payloads of the texts of failures.
func (k *Keys) sealMessage(ctx context.Context, msg proto.Message) error {
	err := proxy.VisitFailures(ctx, msg, proxy.VisitFailuresOptions{
		Visitor: func(_ *proxy.VisitFailuresContext, f *failurepb.Failure) error {
			if ours(f.GetEncodedAttributes()) { // its key was not there when it came in
				return nil
			}
			return converter.EncodeCommonFailureAttributes(converter.GetDefaultDataConverter(), f)
		},
	})
	if err != nil {
		return err
	}
	return proxy.VisitPayloads(ctx, msg, proxy.VisitPayloadsOptions{
		Visitor: func(_ *proxy.VisitPayloadsContext, payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
			return k.Encode(payloads)
		},
		SkipSearchAttributes: true,
	})
}

// open decrypts payloads of an answer. A task whose payloads cannot be decrypted has been handed out: it stays as it is, and the
// worker fails it, which says why in the history, where an error of the poll would have it time out.
func (k *Keys) open(ctx *proxy.VisitPayloadsContext, payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	plain, err := k.Decode(payloads)
	var unknown *UnknownKeyError
	switch {
	case err == nil:
		return plain, nil
	case errors.As(err, &unknown) && ctx.Value(taskKey{}) != nil:
		return payloads, nil
	}
	return nil, refused(err)
}

// openFailure gives a failure the texts that were made a payload of.
func openFailure(_ *proxy.VisitFailuresContext, f *failurepb.Failure) error {
	if f.GetEncodedAttributes() != nil && !ours(f.GetEncodedAttributes()) {
		converter.DecodeCommonFailureAttributes(converter.GetDefaultDataConverter(), f)
		f.EncodedAttributes = nil
	}
	return nil
}

// refused is an error of a call that the SDK does not try again.
func refused(err error) error { return status.Error(codes.FailedPrecondition, err.Error()) }

// stillEncrypted is a payload converter that says why a payload of ours cannot be read.
type stillEncrypted struct{}

// ToPayload implements converter.PayloadConverter: it makes none.
func (stillEncrypted) ToPayload(any) (*commonpb.Payload, error) { return nil, nil }

// FromPayload implements converter.PayloadConverter.
func (stillEncrypted) FromPayload(p *commonpb.Payload, _ any) error {
	return &UnknownKeyError{ID: string(p.GetMetadata()[keyIDField])}
}

// ToString implements converter.PayloadConverter.
func (stillEncrypted) ToString(p *commonpb.Payload) string {
	return (&UnknownKeyError{ID: string(p.GetMetadata()[keyIDField])}).Error()
}

// Encoding implements converter.PayloadConverter.
func (stillEncrypted) Encoding() string { return Encoding }
