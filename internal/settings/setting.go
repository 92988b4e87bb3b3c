// Package settings reads what an operator sets from flags, the environment and one strict configuration file, and says where
// each value came from. It knows the kinds of values and the rules of precedence; which settings there are is the caller's table.
package settings

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Value is where a setting is kept: Set takes it as a flag or a variable writes it, String shows it, Type names its kind.
type Value interface {
	pflag.Value
	// accepts says of a scalar of the configuration file, by its YAML tag, whether it may stand for this kind of value.
	accepts(tag string) bool
	// wants says what is valid, with an example.
	wants() string
}

// Setting is one row of a table of settings.
type Setting struct {
	Name    string // in the configuration file, as a path: kafka.tls.ca
	Env     string // environment variable, "" for none
	Flag    string // without dashes, "" for none
	Help    string
	Default string // as people read it; "" shows the value as it stands before anything is read
	Secret  bool   // never shown, and never a flag: an argument list is public
	Worker  bool   // only the worker reads it
	Value   Value
	// Shown is the value as Print shows it, where a mistake may put a secret into it; nil: as it stands.
	Shown func(text string) string
}

// Label names the setting in an error for whoever has to mend it.
func (s *Setting) Label() string {
	if s.Env == "" {
		return s.Name
	}
	return s.Name + " (" + s.Env + ")"
}

// Origin is where a value came from.
type Origin int

// The origins, from the weakest to the strongest.
const (
	Default Origin = iota
	File
	Environment
	Flag
)

// Set is a table with what was read into it.
type Set struct {
	Path  string // of the configuration file, "" before Resolve or without one
	all   []Setting
	found []found // by the index in all
}

type found struct {
	origin Origin
	line   int // in the configuration file
}

// NewSet returns a set over a table, of which nothing has been read.
func NewSet(table []Setting) *Set {
	s := &Set{all: table, found: make([]found, len(table))}
	for i := range s.all {
		if s.all[i].Default == "" && !s.all[i].Secret {
			s.all[i].Default = s.all[i].Value.String()
		}
	}
	return s
}

// AddFlags adds the flags of the table, those that only a worker reads if worker is set.
func (s *Set) AddFlags(flags *pflag.FlagSet, worker bool) {
	for i := range s.all {
		row := &s.all[i]
		if row.Flag == "" || row.Worker && !worker {
			continue
		}
		help := row.Help
		if row.Env != "" {
			help += " (or " + row.Env + ")"
		}
		f := flags.VarPF(row.Value, row.Flag, "", help)
		f.DefValue = row.Default
		if row.Value.Type() == kindBool {
			f.NoOptDefVal = "true"
		}
	}
}

// Origin says where the value of a setting came from, and in words.
func (s *Set) Origin(i int) (Origin, string) {
	row, at := &s.all[i], s.found[i]
	switch at.origin {
	case File:
		return File, fmt.Sprintf("%s:%d", s.Path, at.line)
	case Environment:
		return Environment, row.Env
	case Flag:
		return Flag, "--" + row.Flag
	}
	return Default, "default"
}

// Given reports whether anybody set what the name stands for.
func (s *Set) Given(name string) bool {
	for i := range s.all {
		if s.all[i].Name == name {
			return s.found[i].origin != Default
		}
	}
	return false
}

// Problems are what is wrong with what was read, each with its place, the setting, the value and what would be valid.
type Problems []string

func (p Problems) Error() string { return strings.Join(p, "\n") }
