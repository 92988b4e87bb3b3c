package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"unsafe"

	"github.com/buger/jsonparser"
)

// parser reads the event time in ms, the key and the value of a record. The key is valid while the record is.
type parser func(record []byte) (at int64, key string, value int64, err error)

// order and departure are what a Go team would unmarshal the records into.
type order struct {
	At     int64  `json:"at"`
	User   string `json:"user"`
	Amount int64  `json:"amount"`
}

type departure struct {
	Scheduled int64  `json:"scheduled"`
	Origin    string `json:"origin"`
	Delay     int64  `json:"delay"`
}

func parserOf(w *Workload, fast bool) parser {
	switch {
	case fast:
		return fastParser(w.fields())
	case w.flights != nil:
		return func(record []byte) (int64, string, int64, error) {
			var e departure
			err := json.Unmarshal(record, &e)
			return e.Scheduled * 1000, e.Origin, e.Delay, err
		}
	default:
		return func(record []byte) (int64, string, int64, error) {
			var e order
			err := json.Unmarshal(record, &e)
			return e.At, e.User, e.Amount, err
		}
	}
}

var errFields = errors.New("a field is missing or no number")

func fastParser(f Fields) parser {
	paths := [][]string{{f.At}, {f.Key}, {f.Value}}
	return func(record []byte) (at int64, key string, value int64, err error) {
		found := 0
		jsonparser.EachKey(record, func(i int, b []byte, _ jsonparser.ValueType, e error) {
			switch i {
			case 0:
				at, e = jsonparser.ParseInt(b)
			case 1:
				key = unsafe.String(unsafe.SliceData(b), len(b))
			case 2:
				value, e = jsonparser.ParseInt(b)
			}
			if e == nil {
				found++
			}
		}, paths...)
		if found != len(paths) {
			return 0, "", 0, fmt.Errorf("%w: %s", errFields, record)
		}
		return at * f.Unit, key, value, nil
	}
}
