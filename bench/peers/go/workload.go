package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
)

// Workload is an entry of workloads.json. Times and durations are in milliseconds.
type Workload struct {
	Title      string   `json:"title"`
	Records    int64    `json:"records"`
	Keys       int64    `json:"keys"`
	Partitions int      `json:"partitions"`
	Zipf       float64  `json:"zipf"`
	Start      int64    `json:"start"`
	Span       int64    `json:"span"`
	Disorder   int64    `json:"disorder"`
	Size       int64    `json:"size"`
	Slide      int64    `json:"slide"`
	Flights    string   `json:"flights"`
	Copies     int64    `json:"copies"`
	Rounds     int      `json:"rounds"`
	Engines    []string `json:"engines"`

	flights []flight
	names   []string
}

// Event is one input record: the index of its key among the workload's keys, its event time and the value to aggregate.
type Event struct {
	Key, At, Value int64
	json           []byte // valid until the next event
}

// Fields are the names of an event's fields, and how many milliseconds the unit of its time has.
type Fields struct {
	Key, At, Value string
	Unit           int64
}

// workloadFlags are the flags that every command about a workload has.
type workloadFlags struct {
	file, name string
	brokers    string
	topic      string
}

func (w *workloadFlags) register(f *flag.FlagSet) {
	f.StringVar(&w.file, "workloads", "bench/peers/workloads.json", "file of the workloads")
	f.StringVar(&w.name, "workload", "", "which one")
	f.StringVar(&w.brokers, "brokers", "127.0.0.1:39092", "Kafka broker, host:port")
	f.StringVar(&w.topic, "topic", "", "topic")
}

// load reads the workload that the flags name.
func (w *workloadFlags) load() (*Workload, error) {
	text, err := os.ReadFile(w.file)
	if err != nil {
		return nil, err
	}
	var all map[string]*Workload
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", w.file, err)
	}
	load, ok := all[w.name]
	if !ok {
		return nil, fmt.Errorf("%s has no workload %q", w.file, w.name)
	}
	return load, load.prepare()
}

func (w *Workload) prepare() error {
	if w.Flights == "" {
		return nil
	}
	flights, origins, err := readFlights(w.Flights)
	if err != nil {
		return err
	}
	w.flights, w.names, w.Keys = flights, origins, int64(len(origins))
	if n := int64(len(flights)) * w.Copies; n != w.Records {
		return fmt.Errorf("%s: %d copies have %d records, the workload says %d", w.Flights, w.Copies, n, w.Records)
	}
	return nil
}

func (w *Workload) fields() Fields {
	if w.flights != nil {
		return Fields{Key: "origin", At: "scheduled", Value: "delay", Unit: 1000}
	}
	return Fields{Key: "user", At: "at", Value: "amount", Unit: 1}
}

// firstUser keeps the digits of the synthetic keys the same in number.
const firstUser = 1_000_000_000

func (w *Workload) keyName(key int64) string {
	if w.names != nil {
		return w.names[key]
	}
	return "user-" + strconv.FormatInt(firstUser+key, 10)
}

// keyIndex is the inverse of keyName. It returns -1 for a name that is none of the workload's.
func (w *Workload) keyIndex(name []byte) int64 {
	if w.names != nil {
		for i, n := range w.names {
			if n == string(name) {
				return int64(i)
			}
		}
		return -1
	}
	if len(name) < 6 || string(name[:5]) != "user-" {
		return -1
	}
	n, err := strconv.ParseInt(string(name[5:]), 10, 64)
	if err != nil || n < firstUser || n >= firstUser+w.Keys {
		return -1
	}
	return n - firstUser
}

// each calls fn with every event, always the same ones in the same order.
func (w *Workload) each(fn func(Event)) {
	if w.flights != nil {
		w.eachFlight(fn)
		return
	}
	r := rand.New(rand.NewPCG(1, 2))
	draw := func() int64 { return r.Int64N(w.Keys) }
	if w.Zipf > 0 {
		z := rand.NewZipf(r, w.Zipf, 1, uint64(w.Keys-1))
		draw = func() int64 { return int64(z.Uint64()) }
	}
	buf := make([]byte, 0, 128)
	for i := range w.Records {
		at := max(w.Start, w.Start+i*w.Span/w.Records-r.Int64N(w.Disorder))
		e := Event{Key: draw(), At: at, Value: r.Int64N(100_000)}
		e.json = appendOrder(buf[:0], e, r.Int64N(10_000))
		fn(e)
	}
}

// appendOrder appends a synthetic event as JSON.
func appendOrder(b []byte, e Event, item int64) []byte {
	b = append(b, `{"at":`...)
	b = strconv.AppendInt(b, e.At, 10)
	b = append(b, `,"user":"user-`...)
	b = strconv.AppendInt(b, firstUser+e.Key, 10)
	b = append(b, `","amount":`...)
	b = strconv.AppendInt(b, e.Value, 10)
	b = append(b, `,"item":"sku-`...)
	b = strconv.AppendInt(b, 10_000+item, 10)
	return append(b, `","channel":"web"}`...)
}

// closingKey begins the keys of the records that close all windows; they are no keys of the workload.
const closingKey = "closing-"

// closing returns the record that moves a partition's watermark past the end of every window.
func (w *Workload) closing(partition int) (key string, value []byte) {
	f := w.fields()
	key = closingKey + strconv.Itoa(partition)
	at := (w.Start + w.Span + 2*w.Size + 2*w.Disorder) / f.Unit
	return key, fmt.Appendf(nil, `{"%s":%d,"%s":"%s","%s":1}`, f.At, at, f.Key, key, f.Value)
}
