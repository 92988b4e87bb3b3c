package secure

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"millrace/tests/long"
	"millrace/tests/rig"
)

func TestMain(m *testing.M) {
	// Most of a test's time is waiting for servers.
	flag.Parse()
	if err := flag.Set("test.parallel", "3"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(rig.Main(m))
}

// needServers skips a test in runs on embedded servers, which tests/secure would make longer and show nothing more of.
func needServers(t *testing.T) {
	t.Helper()
	if os.Getenv("MILLRACE_KAFKA_BROKERS") == "" && !long.Wanted {
		t.Skip("this test starts real servers: make test-real, or make secure")
	}
}

// needLong skips a test that takes minutes.
func needLong(t *testing.T) {
	t.Helper()
	if !long.Wanted {
		t.Skip("this test takes minutes: make secure")
	}
}
