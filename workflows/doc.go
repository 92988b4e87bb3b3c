// Package workflows is the control plane of a pipeline: Pipeline owns it, Replica places one hot path on some worker and
// places it anew when the worker dies, CloseWindows closes what is due, and CloseWindow closes a window that keeps
// failing.
//
// Workflow code is deterministic and holds no package state. Histories of the two previous minor releases must replay
// (tests/replay): a change of what a workflow does, in order or kind, goes behind workflow.GetVersion with a change id
// named after what changed, and the old branch stays until no supported history can take it. Everything is continued as
// new within contract.RunLimit, so that is a matter of two releases.
package workflows
