package store

import (
	"context"
	"fmt"
)

// requestsKept is how many request ids a pipeline remembers for SetPipelineCtl.
const requestsKept = 1000

// setCtlScript applies a change of the desired state once per request id.
//
// KEYS[1] ctl
// KEYS[2] requests: zset of request ids by generation
// ARGV[1] request id
// ARGV[2] the new generation is above this one
// ARGV[3] request ids to keep
// ARGV[4] "1" if the change brings a spec
// ARGV[5...] field, value, ...
// Answers {generation of the request, {field, value, ...}}
var setCtlScript = newScript("set_ctl", `
local done = redis.call('ZSCORE', KEYS[2], ARGV[1])
if done then return {string.format('%.0f', tonumber(done)), redis.call('HGETALL', KEYS[1])} end
local gen = math.max(tonumber(redis.call('HGET', KEYS[1], 'gen') or '0'), tonumber(ARGV[2])) + 1
gen = string.format('%.0f', gen)
redis.call('HSET', KEYS[1], 'gen', gen, unpack(ARGV, 5))
if ARGV[4] == '1' then redis.call('HSET', KEYS[1], 'spec_gen', gen) end
redis.call('ZADD', KEYS[2], gen, ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -tonumber(ARGV[3]) - 1)
return {gen, redis.call('HGETALL', KEYS[1])}
`)

// PipelineCtl returns the desired state of the pipeline; its generation is 0 when nothing was ever desired, or Redis
// forgot it.
func (s *Store) PipelineCtl(ctx context.Context, pipeline string) (PipelineCtl, error) {
	hash, err := s.client.HGetAll(ctx, pipelineCtlKey(pipeline)).Result()
	if err != nil {
		return PipelineCtl{}, fmt.Errorf("read desired state of %s: %w", pipeline, err)
	}
	return parsePipelineCtl(pipeline, hash)
}

// SetPipelineCtl changes the desired state. gen is the generation the change got, and now the state after the call. A
// request id that was seen among the last thousand changes nothing and answers with the generation it got then.
func (s *Store) SetPipelineCtl(ctx context.Context, pipeline string, change CtlChange) (gen int64, now PipelineCtl, err error) {
	if change.RequestID == "" {
		return 0, PipelineCtl{}, fmt.Errorf("change desired state of %s: request id is empty", pipeline)
	}
	args := []any{change.RequestID, change.Above, requestsKept, change.Spec != nil, "format", Format}
	if change.Paused != nil {
		args = append(args, "paused", *change.Paused)
	}
	if change.Stopping != nil {
		args = append(args, "stopping", *change.Stopping)
	}
	if change.CommitNow != nil {
		args = append(args, "commit_now", *change.CommitNow)
	}
	if change.Begun != nil {
		args = append(args, "begun", *change.Begun)
	}
	if change.WatermarkHold != nil {
		args = append(args, "hold", *change.WatermarkHold)
	}
	if change.Spec != nil {
		args = append(args, "spec", change.Spec)
	}
	if change.Orders != nil {
		args = append(args, "orders", change.Orders)
	}
	reply, err := s.run(ctx, setCtlScript, []string{pipelineCtlKey(pipeline), pipelineRequestsKey(pipeline)}, args...)
	if err != nil {
		return 0, PipelineCtl{}, fmt.Errorf("change desired state of %s: %w", pipeline, err)
	}
	if gen, err = replyInt(reply, 0); err != nil {
		return 0, PipelineCtl{}, fmt.Errorf("change desired state of %s: %w", pipeline, err)
	}
	now, err = parsePipelineCtl(pipeline, replyHash(replyList(reply, 1)))
	return gen, now, err
}

func parsePipelineCtl(pipeline string, hash map[string]string) (PipelineCtl, error) {
	ctl := PipelineCtl{WatermarkHold: NoTime}
	if len(hash) == 0 {
		return ctl, nil
	}
	p := fieldParser{hash: hash}
	if format := p.int("format"); p.err == nil && format != Format {
		return ctl, &FormatError{Key: pipelineCtlKey(pipeline), Found: int(format), Want: Format}
	}
	ctl.Gen = p.int("gen")
	ctl.Paused = hash["paused"] == "1"
	ctl.Stopping = hash["stopping"] == "1"
	ctl.CommitNow = hash["commit_now"]
	ctl.Begun = hash["begun"]
	if _, ok := hash["hold"]; ok {
		ctl.WatermarkHold = p.int("hold")
	}
	if spec, ok := hash["spec"]; ok {
		ctl.Spec = []byte(spec)
		ctl.SpecGen = p.int("spec_gen")
	}
	if orders, ok := hash["orders"]; ok {
		ctl.Orders = []byte(orders)
	}
	if p.err != nil {
		return ctl, fmt.Errorf("%s: %w", pipelineCtlKey(pipeline), p.err)
	}
	return ctl, nil
}
