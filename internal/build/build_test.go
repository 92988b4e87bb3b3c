package build

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBuildNamesVersionAndRevision(t *testing.T) {
	info := func(version string, settings ...string) *debug.BuildInfo {
		b := &debug.BuildInfo{Main: debug.Module{Version: version}}
		for i := 0; i < len(settings); i += 2 {
			b.Settings = append(b.Settings, debug.BuildSetting{Key: settings[i], Value: settings[i+1]})
		}
		return b
	}
	require.Equal(t, "v1.2.3", describeBuild(info("v1.2.3")))
	require.Equal(t, "0123456789ab", describeBuild(info("(devel)", "vcs.revision", "0123456789abcdef")))
	require.Equal(t, "v1.2.3 (0123456789ab+modified)",
		describeBuild(info("v1.2.3", "vcs.revision", "0123456789abcdef", "vcs.modified", "true")))
	require.Equal(t, "v0.0.0-20261129110234-0123456789ab+dirty",
		describeBuild(info("v0.0.0-20261129110234-0123456789ab+dirty", "vcs.revision", "0123456789abcdef", "vcs.modified", "true")))
	require.NotEmpty(t, Version())
}
