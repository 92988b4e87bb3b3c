package integration

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"millrace/tests/rig"
)

func TestMain(m *testing.M) {
	// Most of a test's time is waiting for others to notice that somebody died.
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(rig.Main(m))
}
