package stuck

import (
	"context"
	"os"
	"path/filepath"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
	"millrace/tests/rig"
)

// terminate is `temporal workflow terminate`.
func (s *scene) terminate(id string) {
	s.t.Helper()
	require.NoError(s.t, s.Client.TerminateWorkflow(context.Background(), id, "", "by hand"))
}

// endAgain terminates a child as often as it is started, until its next start is half a minute away.
func (s *scene) endAgain(id string) {
	s.t.Helper()
	ends := 0
	rig.Eventually(s.t, "the restart of "+id+" takes half a minute", patience, func() bool {
		if s.Client.TerminateWorkflow(context.Background(), id, "", "by hand") == nil {
			ends++
		}
		now, _ := s.check()
		return ends >= 6 && has(now.Conditions, contract.ConditionChildEnded)
	})
}

const notRunning = "is not running: start it with"

// closedCommands are for a pipeline whose workflow is closed.
var closedCommands = []try{
	pause(notRunning, 1), resume(notRunning, 1), scale(notRunning, 1), drain(notRunning, 1), stop(notRunning, 1),
}

// workflowScenarios are workflows that were ended by hand, or that failed.
var workflowScenarios = []scenario{
	{
		name: "a terminated pipeline", kind: contract.ConditionOrphaned, quick: true,
		bring:    func(s *scene) { s.terminate(contract.PipelineID(s.Spec.Name)) },
		leave:    func(s *scene) { s.lives() },
		commands: append(closedCommands, remove("is in the group|holds replica|is open", 1, 130)),
	},
	{
		name: "a terminated pipeline and its children", kind: contract.ConditionFailed,
		says: "terminated",
		bring: func(s *scene) {
			s.terminate(contract.PipelineID(s.Spec.Name))
			s.terminate(contract.ReplicaID(s.Spec.Name, 0))
			s.terminate(contract.CloseWindowsID(s.Spec.Name))
		},
		leave:    func(s *scene) { s.lives() },
		commands: closedCommands,
	},
	{
		name: "a cancelled pipeline", kind: contract.ConditionFailed,
		says: "cancel",
		bring: func(s *scene) {
			require.NoError(s.t, s.Client.CancelWorkflow(context.Background(), contract.PipelineID(s.Spec.Name), ""))
		},
		leave:    func(s *scene) { s.lives() },
		commands: closedCommands,
	},
	{
		name: "no source topic", kind: contract.ConditionFailed, idle: true, quick: true,
		setup: setup{parts: -1},
		says:  "create it first",
		bring: func(s *scene) { s.CLI("start", s.File) },
		leave: func(s *scene) {
			s.Parts = partitions
			s.makeSource()
			s.lives()
		},
		verify: 1,
	},
	{
		name: "never started", kind: contract.ConditionNotStarted, idle: true, quick: true,
		bring:  func(s *scene) { s.extra = []string{"--spec", s.File} },
		leave:  func(s *scene) { s.extra = nil; s.lives() },
		verify: 1,
	},
	{
		name: "commands to a pipeline that was never started", kind: contract.ConditionNotStarted, idle: true,
		bring:    func(s *scene) { s.extra = []string{"--spec", s.File} },
		leave:    func(*scene) {},
		end:      "not started",
		verify:   1,
		commands: append(closedCommands, remove("nothing of pipeline", 1)),
	},
	{
		name: "an archive that is no directory", kind: contract.ConditionCompactFails, quick: true,
		setup: setup{change: func(s *spec.Spec) { s.Archive = &spec.Archive{Dir: filepath.Join(os.TempDir(), "archive-of-"+s.Name)} }},
		says:  "archiving of .* cannot be carried out: archive.dir .* cannot be used: .*: not a directory",
		bring: func(s *scene) {
			require.NoError(s.t, os.WriteFile(s.Spec.Archive.Dir, nil, 0o600))
			s.t.Cleanup(func() { require.NoError(s.t, os.RemoveAll(s.Spec.Archive.Dir)) })
			a := s.CLI("compact", "run", s.Spec.Name)
			require.Equal(s.t, 1, a.Code, "%s%s", a.Out, a.Err)
		},
		leave: func(s *scene) {
			require.NoError(s.t, os.Remove(s.Spec.Archive.Dir))
			s.Must("compact", "run", s.Spec.Name)
		},
	},
	{
		name: "a terminated child", kind: contract.ConditionChildEnded,
		bring: func(s *scene) { s.endAgain(contract.CloseWindowsID(s.Spec.Name)) },
		leave: func(*scene) {},
	},
}
