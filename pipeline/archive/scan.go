package archive

import (
	"bytes"
	"fmt"

	"millrace/pipeline/event"
)

// members are the names of a JSON object's members in the order in which they are written, each with the punctuation
// around it: {"origin": and ,"carrier":
type members [][]byte

func membersOf(names []string) members {
	all := make(members, len(names))
	for i, name := range names {
		open := byte(',')
		if i == 0 {
			open = '{'
		}
		all[i] = append(event.AppendString([]byte{open}, []byte(name)), ':')
	}
	return all
}

// scan calls fn with the value of every member of an object as package agg and package event write it: all members in
// their order, scalars only, nothing in between.
func (m members) scan(object []byte, fn func(i int, raw []byte) error) error {
	rest := object
	for i, prefix := range m {
		after, found := bytes.CutPrefix(rest, prefix)
		if !found {
			return fmt.Errorf("%.200q: want member %d to begin with %s", object, i, prefix)
		}
		n := scalarLength(after)
		if n == 0 {
			return fmt.Errorf("%.200q: member %d has no value", object, i)
		}
		if err := fn(i, after[:n]); err != nil {
			return fmt.Errorf("%.200q: member %d: %w", object, i, err)
		}
		rest = after[n:]
	}
	if string(rest) != "}" {
		return fmt.Errorf("%.200q: want %d members and no more", object, len(m))
	}
	return nil
}

// scalarLength is the length of the JSON scalar that text begins with.
func scalarLength(text []byte) int {
	if len(text) == 0 || text[0] != '"' {
		return max(bytes.IndexAny(text, ",}"), 0)
	}
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}
