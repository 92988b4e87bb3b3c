package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// laneKeys lists the keys of a lane's state in a fixed order, its meta and the closer's requests left out: what happens
// when these are gone is what happens when Redis forgets everything.
func (r *run) laneKeys(partition int32) []string {
	prefix := "mr:{" + r.pipeline.Lane(partition).String() + "}:"
	var keys []string
	scan := r.probe.Scan(context.Background(), 0, prefix+"*", 1000).Iterator()
	for scan.Next(context.Background()) {
		if name := strings.TrimPrefix(scan.Val(), prefix); name != "meta" && name != "ctl" {
			keys = append(keys, scan.Val())
		}
	}
	require.NoError(r.t, scan.Err())
	slices.Sort(keys)
	return keys
}

// deleteKey deletes one key of one lane: its registry of slices, what it folded into them, or the pages of a slice.
func (r *run) deleteKey(s Step) (end func() bool) {
	rng := rand.New(rand.NewPCG(s.Dice, 0))
	keys := r.laneKeys(rng.Int32N(r.plan.Partitions))
	kind := pick(rng, ":slices", ":folds", ":p:")
	keys = slices.DeleteFunc(keys, func(key string) bool { return !strings.Contains(key, "}"+kind) })
	if len(keys) > 0 { // a lane may hold no open slice just now
		key := pick(rng, keys...)
		r.say("  deletes %s", key)
		require.NoError(r.t, r.probe.Del(context.Background(), key).Err())
	}
	return func() bool { return true }
}

// evictKeys takes memory away from Redis and lets it evict what it likes, as a server does that somebody has configured
// for a cache.
func (r *run) evictKeys(s Step) (end func() bool) {
	ctx := context.Background()
	set := func(name, value string) {
		require.NoError(r.t, r.probe.ConfigSet(ctx, name, value).Err(), "%s %s", name, value)
	}
	evicted := func() int64 {
		info, err := r.probe.InfoMap(ctx, "stats").Result()
		require.NoError(r.t, err)
		n, err := strconv.ParseInt(info["Stats"]["evicted_keys"], 10, 64)
		require.NoError(r.t, err)
		return n
	}
	info, err := r.probe.InfoMap(ctx, "memory").Result()
	require.NoError(r.t, err)
	used, err := strconv.ParseInt(info["Memory"]["used_memory"], 10, 64)
	require.NoError(r.t, err)
	before := evicted()
	set("maxmemory-policy", "allkeys-random")
	set("maxmemory", strconv.FormatInt(used-int64(4<<10+s.Dice%(64<<10)), 10))
	return func() bool {
		set("maxmemory-policy", "noeviction")
		set("maxmemory", "0")
		r.say("  Redis has evicted %d keys", evicted()-before)
		return true
	}
}

// operatorPause is how long the operator of a seed takes to look again.
const operatorPause = 2 * time.Second

// decisions are what the operator of a seed answers. Each is exact, or as exact as the fault leaves it.
var decisions = map[string]string{
	report.IncidentStateLost: report.ChoiceRebuild,
	report.IncidentOtherLog:  report.ChoiceRestart,
	report.IncidentGap:       report.ChoiceSkip,
}

// decideLost is the operator: where the state of a lane is gone and no worker has it in memory, the lane parks and asks.
func (r *run) decideLost() {
	if !r.plan.Uses(RedisKeyLoss, RedisEvict, StoresGone, TopicAgain, LogTrimmed) || time.Since(r.asked) < operatorPause {
		return
	}
	r.asked = time.Now()
	a := r.world.CLI("recover", "ls", r.pipeline.Spec.Name, "--last", "100", "--json")
	if a.Code != 0 { // Temporal may be away
		return
	}
	var recoveries []struct {
		ID     string                 `json:"workflow_id"`
		Open   bool                   `json:"open"`
		Status contract.RecoverStatus `json:"status"`
	}
	require.NoError(r.t, json.Unmarshal([]byte(a.Out), &recoveries), "%s", a.Out)
	for _, rec := range recoveries {
		if !rec.Open {
			continue
		}
		for _, l := range rec.Status.Lanes {
			if l.State != report.LaneParked || l.Incident == nil || l.Incident.Decided != "" {
				continue
			}
			choice, ok := decisions[l.Incident.Kind]
			require.True(r.t, ok, "no fault of the seed leads to this incident of lane %d: %+v", l.Partition, l.Incident)
			name := fmt.Sprintf("%s/%d", l.Topic, l.Partition)
			a := r.world.CLI("recover", "decide", rec.ID, name, choice, "--reason", "chaos")
			r.say("  the operator answers %s of lane %d with %s: exit code %d %s", l.Incident.Kind, l.Partition, choice,
				a.Code, strings.TrimSpace(a.Err))
			if a.Code == 0 {
				r.decided[incidentOf{l.Incident.Kind, l.Partition}]++
				if l.Incident.Kind == report.IncidentGap {
					r.skip(l.Partition, l.Incident.From, l.Incident.To)
				}
			}
		}
	}
}

// incidentOf counts what was decided.
type incidentOf struct {
	kind      string
	partition int32
}
