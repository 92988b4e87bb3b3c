// Package replay keeps the workflows' histories replayable. The histories directory holds, per release, what `temporal workflow show
// -o json` printed for real runs of every workflow; each must replay with today's code, and those named must_fail_* must
// not. They are kept for the two previous minor releases (docs/workflows.md says how a release adds its own).
//
// TestLive runs the workflows, the activities and the real hot path against Temporal's development server with
// continue-as-new made frequent. TestSteer does so for the workflows that steer recovery, degradation and journals, over a hot
// path that is scripted. With MILLRACE_CAPTURE=DIR they write the histories of their runs to DIR.
package replay
