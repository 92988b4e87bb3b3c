package result_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/verify"
)

func TestVerifyComparesPlainRows(t *testing.T) {
	const key = "mr:{orders/hourly/1699920000000}:rows"
	for _, c := range []struct {
		name string
		do   func(w *world)
		want string // "" when nothing is wrong
	}{
		{"as they are", func(*world) {}, ""},
		{"a changed value", func(w *world) {
			require.NoError(w.t, w.redis.HSet(w.ctx, key, `{"k":"x"}`, "7").Err())
		}, `view: the plain rows of revision 2 are not its content: key {"k":"x"} has "7", and there "{\"n\":2,`},
		{"a lost row", func(w *world) {
			require.NoError(w.t, w.redis.HDel(w.ctx, key, `{"k":"y"}`).Err())
		}, `view: the plain rows of revision 2 are not its content: key {"k":"y"} has "", and there`},
		{"a row too many", func(w *world) {
			require.NoError(w.t, w.redis.HSet(w.ctx, key, `{"k":"z"}`, "7").Err())
		}, "view: the plain rows of revision 2 are not its content: they are 3, and it has 2"},
		{"an earlier revision", func(w *world) {
			require.NoError(w.t, w.redis.HSet(w.ctx, key, "revision", "1").Err())
		}, "view: Redis has plain rows of revision 1 and shows revision 2"},
		{"no rows", func(w *world) {
			require.NoError(w.t, w.redis.Del(w.ctx, key).Err())
		}, "view: Redis has no plain rows of revision 2"},
		{"no content to compare them with", func(w *world) {
			require.NoError(w.t, w.redis.Del(w.ctx, "mr:{orders/hourly/1699920000000}:v:1").Err())
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := publishedWith(t, strings.Replace(hourly, "{topic: orders.windows}", "{topic: orders.windows}, redis: {layout: rows}", 1))
			c.do(w)
			v, err := verify.Run(w.ctx, verify.Config{Spec: w.spec, State: w.store, Kafka: w.kafka, Now: atBase, Input: true})
			require.NoError(t, err)
			var found []string
			for _, p := range v.Problems {
				found = append(found, p.Kind+": "+p.Detail)
			}
			require.Contains(t, strings.Join(found, "\n"), c.want)
			require.Equal(t, c.want == "", len(found) == 0, "%v", found)
		})
	}
}
