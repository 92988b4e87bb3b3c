package codec

import (
	"context"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
)

// dataConverter makes values of payloads, as the SDK's own does, and says of one that is still encrypted why that is.
type dataConverter struct {
	converter.DataConverter // outside of workflows: an error
	inWorkflow              converter.DataConverter
}

var _ converter.ContextAware = (*dataConverter)(nil)

func (k *Keys) converters() *dataConverter {
	with := func(last stillEncrypted) converter.DataConverter {
		return converter.NewCompositeDataConverter(
			converter.NewNilPayloadConverter(), converter.NewByteSlicePayloadConverter(), converter.NewProtoJSONPayloadConverter(),
			converter.NewProtoPayloadConverter(), converter.NewJSONPayloadConverter(), last,
		)
	}
	return &dataConverter{DataConverter: with(stillEncrypted{keys: k}), inWorkflow: with(stillEncrypted{keys: k, panics: true})}
}

// WithWorkflowContext implements converter.ContextAware. An error would be the workflow's own there: of its input the workflow would
// fail for good, and a signal would be dropped. A panic fails the workflow task, which is tried again.
func (d *dataConverter) WithWorkflowContext(converter.WorkflowContext) converter.DataConverter {
	return d.inWorkflow
}

// WithContext implements converter.ContextAware.
func (d *dataConverter) WithContext(context.Context) converter.DataConverter { return d.DataConverter }

// stillEncrypted is a payload converter that says why a payload of ours cannot be read.
type stillEncrypted struct {
	keys   *Keys
	panics bool
}

// why is what is wrong with the payload. Its key may have come since.
func (s stillEncrypted) why(p *commonpb.Payload) error {
	if _, err := s.keys.Decode([]*commonpb.Payload{p}); err != nil {
		return err
	}
	return fmt.Errorf("key %q has come since this payload did; try again", p.GetMetadata()[keyIDField])
}

// ToPayload implements converter.PayloadConverter: it makes none.
func (stillEncrypted) ToPayload(any) (*commonpb.Payload, error) { return nil, nil }

// FromPayload implements converter.PayloadConverter.
func (s stillEncrypted) FromPayload(p *commonpb.Payload, _ any) error {
	err := s.why(p)
	if s.panics {
		panic(err) //nolint:forbidigo // the SDK fails a workflow task for nothing else
	}
	return err
}

// ToString implements converter.PayloadConverter.
func (s stillEncrypted) ToString(p *commonpb.Payload) string { return s.why(p).Error() }

// Encoding implements converter.PayloadConverter.
func (stillEncrypted) Encoding() string { return Encoding }
