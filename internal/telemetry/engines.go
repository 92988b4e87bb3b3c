package telemetry

import (
	"strconv"

	"millrace/pipeline/engine"
	"millrace/pipeline/lane"
	"millrace/pipeline/stage"
	"millrace/pipeline/store"
)

// ObserveEngines adds all hot paths that statuses returns. statuses is called on every scrape, from any goroutine.
func (r *Registry) ObserveEngines(statuses func() []engine.Status) {
	r.sources.add(func(to *scrape) {
		for _, e := range statuses() {
			to.set(replicaMemory, float64(e.MemoryUsed), e.Pipeline, strconv.Itoa(e.Replica))
			to.set(replicaLimit, float64(e.MemoryLimit), e.Pipeline, strconv.Itoa(e.Replica))
			for i := range e.Lanes {
				setLane(to, e.Pipeline, &e.Lanes[i])
			}
		}
	})
}

func setLane(to *scrape, pipeline string, l *lane.Status) {
	of := []string{pipeline, l.Topic, strconv.Itoa(int(l.Partition))}
	for outcome, n := range outcomes(l.Counters) {
		to.set(laneRecords, float64(n), with(of, outcome)...)
	}
	for _, r := range l.Refused {
		to.set(laneRefused, float64(r.Count), with(of, r.Reason)...)
	}
	to.set(laneState, 1, with(of, l.State)...)
	to.set(laneOffset, float64(l.Committed), of...)
	to.set(laneLag, float64(l.Lag()), of...)
	if l.Watermark != nil {
		to.setTime(laneWatermark, *l.Watermark, of...)
	}
	to.set(laneEntries, float64(l.Entries), of...)
	to.set(laneSlices, float64(l.Slices), of...)
	to.set(laneMemory, float64(l.Bytes), of...)
	to.set(laneCommits, float64(l.Commits), of...)
	to.set(laneWritten, float64(l.Written), of...)
	if l.StateFormat > 0 {
		to.set(laneFormat, float64(l.StateFormat), of...)
	}
	if p := l.Pages; p != nil {
		to.set(lanePages, float64(p.Pages), of...)
		to.set(lanePageBytes, float64(p.Bytes), of...)
		to.set(lanePageRuns, float64(p.Runs), of...)
		to.set(laneDirtied, float64(p.Dirtied), of...)
		to.set(lanePageWritten, float64(p.Written), of...)
	}
	to.set(laneGap, l.GapMs/1000, of...)
	to.set(laneReseeds, float64(l.Reseeds), of...)
	to.set(laneUnsent, float64(l.Unsent), of...)
	to.set(laneJournalCommits, float64(l.JournalCommits), of...)
	to.set(laneJournalBytes, float64(l.JournalBytes), of...)
	setStages(to, with(of, "lane"), &l.Times.Lane.Total)
	setStages(to, with(of, "reader"), &l.Times.Reader.Total)
	setStages(to, with(of, "committer"), &l.Times.Committer.Total)
}

func setStages(to *scrape, of []string, spent *stage.Spent) {
	for name, s := range spent.Seconds() {
		to.set(laneStage, s, with(of, name)...)
	}
}

// outcomes are what became of a lane's records, by name.
func outcomes(c store.Counters) map[string]int64 {
	return map[string]int64{
		"invalid": c.Invalid, "ahead": c.Ahead, "past": c.Past, "jumped": c.Jumped, "filtered": c.Filtered,
		"duplicate": c.Duplicate, "late": c.Late, "folded": c.Folded,
	}
}
