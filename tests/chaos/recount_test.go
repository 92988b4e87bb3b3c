package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/shadow/plan"
)

// recount counts all windows again from the source topic, by a shadow whose worker is killed in the middle, and compares them with
// ledger, Redis and result topic. A window that cannot be counted any more needs a reason that the schedule explains.
func (r *run) recount() {
	r.t.Helper()
	began := time.Now()
	res := r.pipeline.Recount(false)
	var lines []string
	for id, places := range res.Wrong {
		for _, w := range places {
			lines = append(lines, fmt.Sprintf("%s: %s is wrong: %s; keys %s", id, w.Place, w.Detail, w.Keys))
		}
	}
	for _, refusal := range res.Refused {
		lines = append(lines, fmt.Sprintf("refused: %s: %s", refusal.Reason, refusal))
	}
	slices.Sort(lines)
	r.keep("recount.txt", []byte(strings.Join(lines, "\n")))
	r.out.Recounted, r.out.Refused, r.out.Why = res.Equal, len(res.Refused), res.Reasons()
	r.say("%d of %d final windows recounted in %s, %d with those that are empty, %d equal, %d refused (%s), the worker was killed: %t",
		res.Final-len(res.Refused), res.Final, time.Since(began).Round(time.Second/10), res.Windows, res.Equal, len(res.Refused),
		res.Reasons(), res.Killed)
	if r.scale.Away > 0 { // the short schedule may be drained before a window is final
		require.Positive(r.t, res.Final, "no window is final")
	}
	require.Empty(r.t, res.Wrong, "windows are not as they were counted again, see recount.txt")
	for _, refusal := range res.Refused {
		require.Contains(r.t, r.plan.refusals(), refusal.Reason, "%s", refusal)
	}
	require.True(r.t, res.Killed || res.Offsets == 0, "nobody killed the worker that counts")
}

// refusals are the reasons for which windows of the schedule may not be countable any more. Rebuilt lanes
// are countable: they have the past that they had. Where Redis and the group's offsets are gone together
// nothing says which seals a lane had adopted, so it gets a past of its own; windows that were final
// before cannot be counted together with those that become final after it.
func (p *Plan) refusals() []string {
	switch p.Epilogue {
	case StoresGone:
		return []string{plan.ReasonEra}
	case TopicAgain:
		return []string{plan.ReasonOtherTopic}
	case LogTrimmed:
		return []string{plan.ReasonTrimmed, plan.ReasonEra}
	}
	return nil
}
