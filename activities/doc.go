// Package activities is what workflows do to the world: one struct per task-queue role, each with small interfaces for
// what it needs. The hot path itself belongs to the process and outlives every attempt that attaches to it (Host);
// attempts beat for themselves, so that Temporal being away stops nothing (attempt).
package activities
