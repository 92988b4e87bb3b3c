package app

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// ReportsFile holds recoveries that were done while Temporal was away, a line each, until their workflows are started.
const ReportsFile = "reports.jsonl"

// memoryReports bounds the reports that are kept where there is no directory to keep them in.
const memoryReports = 1000

// DefaultReportsLimit is how large the file of reports may become, in bytes. A report has a few kilobytes.
const DefaultReportsLimit = 64 << 20

// LeastReportsLimit is the smallest limit that makes sense: room for a report of very many lanes.
const LeastReportsLimit = 1 << 20

// reportLog keeps reports until they are delivered: on disk, appended and synced, or in memory only. It is not safe for concurrent
// use.
type reportLog struct {
	path    string
	file    *os.File // nil: in memory only
	size    int64    // of the file up to the last whole line
	limit   int64    // of size
	dropped int      // reports that were never delivered, to keep the limit
	waiting []waitingReport
	log     *slog.Logger
}

// waitingReport is one that is not delivered. It is in memory, or a line of the file.
type waitingReport struct {
	id     string
	report *report.RecoveryReport
	at, n  int64
}

// reportLine is a line of the file: a report, or the id of one that is delivered.
type reportLine struct {
	ID     string                 `json:"id"`
	Report *report.RecoveryReport `json:"report,omitempty"`
}

func recoveryID(b report.RecoveryBatch) string {
	return contract.RecoverLanesID(b.Pipeline, b.Process, b.Batch)
}

// openReports opens the log in dir; an empty dir is none. Reports of an earlier process that were not delivered wait again. A last
// line that a crash cut off is taken away. limit is how large the file may become.
func openReports(dir string, limit int64, log *slog.Logger) (*reportLog, error) {
	l := &reportLog{log: log, limit: limit}
	if dir == "" {
		return l, nil
	}
	if err := os.Remove(filepath.Join(dir, ReportsFile) + unfinished); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open recovery reports: %w", err)
	}
	l.path = filepath.Join(dir, ReportsFile)
	file, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open recovery reports: %w", err)
	}
	l.file = file
	if err := l.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("read recovery reports: %w", err), file.Close())
	}
	return l, nil
}

func (l *reportLog) load() error {
	in := bufio.NewReader(l.file)
	for {
		text, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		var line reportLine
		switch err := json.Unmarshal(bytes.TrimSpace(text), &line); {
		case err != nil || line.ID == "":
			l.log.Warn("a line of the recovery reports cannot be read; it is passed over", "file", l.path, "byte", l.size, "error", err)
		case line.Report != nil:
			l.waiting = append(l.waiting, waitingReport{id: line.ID, at: l.size, n: int64(len(text))})
		default:
			l.forget(line.ID)
		}
		l.size += int64(len(text))
	}
	if err := l.file.Truncate(l.size); err != nil {
		return err
	}
	if err := l.shrink(); err != nil {
		return err
	}
	return l.makeRoom(0)
}

// add keeps a report. It returns after the disk has it; where the disk does not take it, it is kept in memory.
func (l *reportLog) add(told report.RecoveryReport) {
	id := recoveryID(told.Batch)
	if slices.ContainsFunc(l.waiting, func(w waitingReport) bool { return w.id == id }) {
		return
	}
	if l.file != nil {
		at, n, err := l.write(reportLine{ID: id, Report: &told})
		if err == nil {
			l.waiting = append(l.waiting, waitingReport{id: id, at: at, n: n})
			return
		}
		l.log.Warn("recovery report not written; it is kept in memory", "recovery", id, "error", err)
	}
	inMemory := func(w waitingReport) bool { return w.report != nil }
	if held := slices.IndexFunc(l.waiting, inMemory); held >= 0 && len(l.waiting) >= memoryReports {
		l.log.Warn("too many recovery reports wait for Temporal; the oldest one is dropped", "recovery", l.waiting[held].id)
		l.waiting = slices.Delete(l.waiting, held, held+1)
	}
	l.waiting = append(l.waiting, waitingReport{id: id, report: &told})
}

func (l *reportLog) write(line reportLine) (at, n int64, err error) {
	text, err := json.Marshal(line)
	if err != nil {
		return 0, 0, err
	}
	text = append(text, '\n')
	if err := l.makeRoom(int64(len(text))); err != nil {
		return 0, 0, err
	}
	if _, err = l.file.WriteAt(text, l.size); err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		_ = l.file.Truncate(l.size) // half a line at the end is passed over in any case
		return 0, 0, err
	}
	at, n = l.size, int64(len(text))
	l.size += n
	return at, n, nil
}

// next returns the oldest report that waits. ok is false when none does.
func (l *reportLog) next() (told report.RecoveryReport, ok bool) {
	for len(l.waiting) > 0 {
		w := l.waiting[0]
		if w.report != nil {
			return *w.report, true
		}
		text := make([]byte, w.n)
		var line reportLine
		_, err := l.file.ReadAt(text, w.at)
		if err == nil {
			err = json.Unmarshal(text, &line)
		}
		if err == nil && line.Report != nil {
			return *line.Report, true
		}
		l.log.Warn("recovery report cannot be read again; it is passed over", "recovery", w.id, "error", err)
		l.waiting = l.waiting[1:]
	}
	return told, false
}

// done forgets a report that is delivered. Should the disk not take that, it is delivered again after a restart, which changes
// nothing: its workflow's id is taken.
func (l *reportLog) done(id string) {
	waiting := len(l.waiting)
	l.forget(id)
	if l.file == nil || len(l.waiting) == waiting {
		return
	}
	_, _, err := l.write(reportLine{ID: id})
	if err == nil {
		err = l.shrink()
	}
	if err != nil {
		l.log.Warn("delivery of a recovery report not written", "recovery", id, "error", err)
	}
}

func (l *reportLog) forget(id string) {
	l.waiting = slices.DeleteFunc(l.waiting, func(w waitingReport) bool { return w.id == id })
}

// shrink empties the file once nothing in it waits.
func (l *reportLog) shrink() error {
	onDisk := func(w waitingReport) bool { return w.report == nil }
	if l.size == 0 || slices.ContainsFunc(l.waiting, onDisk) {
		return nil
	}
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	l.size = 0
	return l.file.Sync()
}

func (l *reportLog) close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}
