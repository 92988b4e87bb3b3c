package observability

import (
	"os"
	"testing"

	"millrace/tests/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }
