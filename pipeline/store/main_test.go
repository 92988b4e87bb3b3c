package store_test

import (
	"testing"

	"go.uber.org/goleak"

	"millrace/pipeline/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(storetest.Shared(m)) }
