package wal

import "time"

// Level says how full the log is.
type Level int

// Levels, in rising order.
const (
	Normal Level = iota // below the soft limit
	Soft                // over the soft limit, or the disk has no room for another segment: throttle
	Hard                // at the hard limit, out of space, failed or closed: appends fail or are about to; block
)

func (v Level) String() string {
	switch v {
	case Normal:
		return "normal"
	case Soft:
		return "soft"
	}
	return "hard"
}

// Level returns the log's present level. It changes back by itself when records are released or the disk has room again.
func (l *Log) Level() Level {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.level()
}

func (l *Log) level() Level {
	room := max(l.refused, l.cfg.SegmentSize/8) // without it appends fail, or may soon
	switch {
	case l.down() != nil, l.used+room >= l.cfg.HardLimit:
		return Hard
	case l.next == nil && l.blocked != nil && !l.fits(room):
		return Hard
	case l.used >= l.cfg.SoftLimit, l.next == nil && l.blocked != nil:
		return Soft
	}
	return Normal
}

// Err returns ErrFailed (with its cause) once the log has failed, ErrClosed once closed, ErrNoSpace while another segment
// cannot be prepared, and nil otherwise.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.down(); err != nil {
		return err
	}
	if l.next == nil {
		return l.blocked
	}
	return nil
}

// Stats counts since the log was opened, unless said otherwise.
type Stats struct {
	Records, Groups, Syncs uint64 // acknowledged records; groups that were synced together; syncs of groups
	Bytes                  uint64 // of acknowledged frames
	SyncTime, WorstSync    time.Duration
	Rolls                  uint64 // changes to another segment
	RollWaits              uint64 // times an appender found no segment prepared
	Created, Recycled      uint64 // segments prepared from new and from released files
	Corrupt                uint64 // corrupt ranges now in the log, those found at opening included
	AsideDeleted           uint64 // copies of unreadable ranges and torn tails that were deleted to keep their bounds
	AsideDeletedBytes      int64
	Used                   int64  // bytes of frames in the log now
	SoftLimit, HardLimit   int64  // of Used, as configured
	Segments               int    // with records, now
	First, Next            uint64 // indexes in the log now: the lowest kept, the next
	Failed                 bool
}

// Stats returns the log's counters.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.SoftLimit, s.HardLimit = l.cfg.SoftLimit, l.cfg.HardLimit
	s.Used, s.Segments, s.First, s.Next = l.used, len(l.segs), l.nextIndex, l.nextIndex
	for i, seg := range l.segs {
		if i == 0 {
			s.First = seg.first
		}
		s.Corrupt += uint64(len(seg.holes))
	}
	return s
}

// SegmentInfo describes a segment with records.
type SegmentInfo struct {
	ID      uint64 `json:"id"`
	File    string `json:"file"`
	State   string `json:"state"` // active or sealed
	Size    int64  `json:"size"`
	Used    int64  `json:"used"` // bytes of durable frames
	First   uint64 `json:"first"`
	Next    uint64 `json:"next"`
	Streams int    `json:"streams"`
	Corrupt int    `json:"corrupt"` // ranges
}

// Segments describes the segments with records, oldest first.
func (l *Log) Segments() []SegmentInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]SegmentInfo, len(l.segs))
	for i, s := range l.segs {
		state := Active
		if s.ended {
			state = Sealed
		}
		all[i] = SegmentInfo{
			ID: s.id, File: s.path, State: state.String(), Size: s.size, Used: s.durable - dataStart,
			First: s.first, Next: s.next, Streams: len(s.streams), Corrupt: len(s.holes),
		}
	}
	return all
}
