package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Where a pipeline without state begins to read.
const (
	FromEarliest = "earliest" // at the start of every log
	FromLatest   = "latest"   // at the end of every log, as of the start
)

// From says where the lanes of a pipeline without state begin: "earliest", "latest", a time, or an offset for every lane.
type From struct {
	Place   string      // FromEarliest, FromLatest or "" for one of the others
	Time    time.Time   // the first record whose timestamp is not before it
	Offsets []LaneStart // by topic and partition
}

// LaneStart is where one lane begins.
type LaneStart struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`             // BeginAtStart: wherever the log begins when the lane first reads it
	TopicID   string `json:"topic_id,omitempty"` // that the offset belongs to
}

// BeginAtStart is the offset of a lane that begins at the start of its log.
const BeginAtStart = -1

const wantFrom = `"earliest", "latest", a time such as "2001-01-31T00:00:00Z", or an offset for every partition as ` +
	`topic/0=17,topic/1=20 or {"topic": {"0": 17}}`

// MarshalJSON writes a text, or an object of topics and partitions.
func (f From) MarshalJSON() ([]byte, error) {
	if len(f.Offsets) == 0 {
		return json.Marshal(f.String())
	}
	byTopic := make(map[string]map[string]int64)
	for _, o := range f.Offsets {
		if byTopic[o.Topic] == nil {
			byTopic[o.Topic] = make(map[string]int64)
		}
		byTopic[o.Topic][strconv.Itoa(int(o.Partition))] = o.Offset
	}
	return json.Marshal(byTopic)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (f *From) UnmarshalJSON(data []byte) error {
	if data = bytes.TrimSpace(data); len(data) > 0 && data[0] == '{' {
		var byTopic map[string]map[string]int64
		if err := json.Unmarshal(data, &byTopic); err != nil {
			return fmt.Errorf("want %s", wantFrom)
		}
		return f.setOffsets(byTopic)
	}
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("want %s", wantFrom)
	}
	parsed, err := ParseFrom(text)
	if err == nil {
		*f = *parsed
	}
	return err
}

func (f *From) setOffsets(byTopic map[string]map[string]int64) error {
	var list []LaneStart
	//workflowcheck:ignore the list is sorted below
	for topic, partitions := range byTopic {
		//workflowcheck:ignore the list is sorted below
		for text, offset := range partitions {
			n, err := strconv.ParseInt(text, 10, 32)
			if err != nil || n < 0 || offset < 0 {
				return fmt.Errorf("offset %d of partition %q of topic %s: want a partition and an offset, both from 0", offset, text, topic)
			}
			list = append(list, LaneStart{Topic: topic, Partition: int32(n), Offset: offset})
		}
	}
	if len(list) == 0 {
		return fmt.Errorf("it names no partition: want %s", wantFrom)
	}
	sort.Slice(list, func(i, j int) bool {
		a, b := list[i], list[j]
		return a.Topic < b.Topic || a.Topic == b.Topic && a.Partition < b.Partition
	})
	*f = From{Offsets: list}
	return nil
}

// ParseFrom reads earliest, latest, a time, offsets as JSON, or offsets as topic/partition=offset,...
func ParseFrom(text string) (*From, error) {
	switch text = strings.TrimSpace(text); {
	case text == FromEarliest || text == FromLatest:
		return &From{Place: text}, nil
	case strings.HasPrefix(text, "{"):
		f := new(From)
		return f, f.UnmarshalJSON([]byte(text))
	case strings.Contains(text, "="):
		return parseOffsets(text)
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, fmt.Errorf("%q is no place to begin: want %s", text, wantFrom)
	}
	return &From{Time: at.UTC()}, nil
}

func parseOffsets(text string) (*From, error) {
	byTopic := make(map[string]map[string]int64)
	for _, part := range strings.Split(text, ",") {
		lane, number, _ := strings.Cut(strings.TrimSpace(part), "=")
		slash := strings.LastIndexByte(lane, '/')
		offset, err := strconv.ParseInt(number, 10, 64)
		if slash <= 0 || err != nil {
			return nil, fmt.Errorf("%q is no lane with its offset: want topic/partition=offset, such as flights/0=17", part)
		}
		topic, partition := lane[:slash], lane[slash+1:]
		if byTopic[topic] == nil {
			byTopic[topic] = make(map[string]int64)
		}
		if _, twice := byTopic[topic][partition]; twice {
			return nil, fmt.Errorf("lane %s is named twice", lane)
		}
		byTopic[topic][partition] = offset
	}
	f := new(From)
	return f, f.setOffsets(byTopic)
}

// String is the text that ParseFrom reads.
func (f From) String() string {
	switch {
	case f.Place != "":
		return f.Place
	case len(f.Offsets) == 0:
		return f.Time.UTC().Format(time.RFC3339Nano)
	}
	parts := make([]string, len(f.Offsets))
	for i, o := range f.Offsets {
		parts[i] = fmt.Sprintf("%s/%d=%d", o.Topic, o.Partition, o.Offset)
	}
	return strings.Join(parts, ",")
}

// Begin says how a pipeline begins that is started with a place, or in place of an earlier incarnation.
type Begin struct {
	ID      string `json:"id"` // of the start; what was begun under it is not begun again
	From    From   `json:"from"`
	Discard bool   `json:"discard,omitempty"` // the state of an earlier incarnation goes first
}

// Begun is where a start finds that its lanes are to begin.
type Begun struct {
	Already bool        `json:"already,omitempty"` // the start had begun them before
	Lanes   []LaneStart `json:"lanes,omitempty"`
}

// BeginLanesInput gives every lane its first state.
type BeginLanesInput struct {
	Spec    json.RawMessage `json:"spec"`
	ID      string          `json:"id"`
	Discard bool            `json:"discard,omitempty"` // they are fenced by the same start, or by one that was cut off
	Lanes   []LaneStart     `json:"lanes"`
}
