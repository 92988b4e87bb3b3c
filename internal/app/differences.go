package app

import (
	"millrace/pipeline/result"
	"millrace/pipeline/shadow/found"
	"millrace/pipeline/spec"
)

// jobs are what the closer of a pipeline carries out beside closing.
func (c *closers) jobs(s *spec.Spec) map[string]result.JobKind {
	shadows := found.Differences{Store: c.store}
	return map[string]result.JobKind{
		result.JobCorrections: result.Corrections{From: shadows}, result.JobCertify: result.Certify{From: shadows},
		result.JobRollup: result.Rollups{Late: c.lateEvents(s)}, result.JobArchive: result.Archives{Shared: c.shared},
	}
}
