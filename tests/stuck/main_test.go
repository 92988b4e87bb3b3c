package stuck

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"millrace/tests/rig"
)

// all asks for every scenario with every command, and not only for those that take seconds.
var all = flag.Bool("all", false, "every state and every command in it; make stuck")

func TestMain(m *testing.M) {
	// Most of a scenario's time is waiting.
	flag.Parse()
	if err := flag.Set("test.parallel", "5"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(rig.Main(m))
}
