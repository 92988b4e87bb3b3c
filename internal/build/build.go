// Package build says which build of Millrace a program is.
package build

import (
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
)

// version is set with -ldflags "-X millrace/internal/build.version=..." where there is no checkout to read it from.
var version string

// Version names this program, as ledger rows do too: its module version and, when it was built from a checkout, the
// revision. It is "unknown" when neither is known.
var Version = sync.OnceValue(func() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		if described := describeBuild(info); described != "" {
			return described
		}
	}
	return "unknown"
})

// Go is the version of Go that built this program.
func Go() string { return runtime.Version() }

func describeBuild(info *debug.BuildInfo) string {
	settings := make(map[string]string, len(info.Settings))
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	name, revision := info.Main.Version, settings["vcs.revision"]
	if len(revision) > 12 {
		revision = revision[:12]
	}
	if revision == "" || strings.Contains(name, revision) { // a pseudo-version holds the revision
		return name
	}
	if settings["vcs.modified"] == "true" {
		revision += "+modified"
	}
	if name == "" || name == "(devel)" {
		return revision
	}
	return name + " (" + revision + ")"
}
