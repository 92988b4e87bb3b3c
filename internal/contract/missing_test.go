package contract

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
)

// A reason that many lanes share is said once, however their numbers differ.
func TestMissingTextSaysEveryReasonOnce(t *testing.T) {
	lost := func(n int32) report.LaneMissing {
		return report.LaneMissing{Topic: "in", Partition: n,
			Reason: fmt.Sprintf("Redis holds no state of in/%d, but offset %d is committed", n, 100+n)}
	}
	unowned := func(n int32) report.LaneMissing {
		return report.LaneMissing{Topic: "in", Partition: n, Reason: "no worker has acquired it"}
	}
	require.Empty(t, MissingText(nil))
	require.Equal(t, "lane in/7: no worker has acquired it", MissingText([]report.LaneMissing{unowned(7)}))
	require.Equal(t, "lanes in/0, in/2 (numbers of in/0): Redis holds no state of in/0, but offset 100 is committed; "+
		"lanes in/1, in/3: no worker has acquired it", MissingText([]report.LaneMissing{lost(0), unowned(1), lost(2), unowned(3)}))
	var many []report.LaneMissing
	for n := range int32(20) {
		many = append(many, unowned(n))
	}
	require.Contains(t, MissingText(many), "in/14, in/15 and 4 more: no worker has acquired it")
	many = nil
	for n := range int32(9) {
		many = append(many, report.LaneMissing{Topic: "in", Partition: n, Reason: fmt.Sprintf("reason %c", 'a'+n)})
	}
	require.Contains(t, MissingText(many), "lane in/4: reason e; and 4 more")
}
