package codec

import (
	"context"
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
		Inbound: &proxy.VisitFailuresOptions{Visitor: k.openFailure},
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
	opts.DataConverter = k.converters()
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
	if strings.Contains(method, "/Poll") || strings.HasSuffix(method, "/RespondWorkflowTaskCompleted") { // the next task may be its answer
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

// open decrypts payloads of an answer. A payload of a task that cannot be decrypted has been handed out with it: it stays as it is, and
// the worker fails the task, which says why in the history, where an error of the poll would have it time out, again and again.
func (k *Keys) open(ctx *proxy.VisitPayloadsContext, payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	plain, err := k.Decode(payloads)
	switch {
	case err == nil:
		return plain, nil
	case ctx.Value(taskKey{}) == nil && !ofFailure(ctx.Parent):
		return nil, refused(err)
	}
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		out[i] = p
		if plain, err := k.Decode(payloads[i : i+1]); err == nil {
			out[i] = plain[0]
		}
	}
	return out, nil
}

// ofFailure reports whether a payload's parent is a failure, of whose texts it was made. It may be the failure of a task, written by a
// worker whose key was wrong: what else the answer holds is to be read all the same.
func ofFailure(parent proto.Message) bool {
	_, ok := parent.(*failurepb.Failure)
	return ok
}

// openFailure gives a failure the texts that were made a payload of, or says why it cannot. In a task the failure stays as it is.
func (k *Keys) openFailure(ctx *proxy.VisitFailuresContext, f *failurepb.Failure) error {
	switch texts := f.GetEncodedAttributes(); {
	case texts == nil:
	case !ours(texts):
		converter.DecodeCommonFailureAttributes(converter.GetDefaultDataConverter(), f)
		f.EncodedAttributes = nil
	case ctx.Value(taskKey{}) == nil:
		f.Message = stillEncrypted{keys: k}.why(texts).Error()
	}
	return nil
}

// refused is an error of a call that the SDK does not try again.
func refused(err error) error { return status.Error(codes.FailedPrecondition, err.Error()) }
