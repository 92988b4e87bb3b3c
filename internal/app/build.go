package app

import (
	"runtime/debug"
	"sync"
)

// build names this program for ledger rows: its module version and, when it was built from a checkout, the revision.
var build = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return describeBuild(info)
})

func describeBuild(info *debug.BuildInfo) string {
	settings := make(map[string]string, len(info.Settings))
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	name, revision := info.Main.Version, settings["vcs.revision"]
	if revision == "" {
		return name
	}
	if len(revision) > 12 {
		revision = revision[:12]
	}
	if settings["vcs.modified"] == "true" {
		revision += "+modified"
	}
	if name == "" || name == "(devel)" {
		return revision
	}
	return name + " (" + revision + ")"
}
