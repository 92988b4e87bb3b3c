package settings

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Source is what settings are read from. Flags have been parsed into the table's values already.
type Source struct {
	Getenv func(string) string
	Flags  *pflag.FlagSet
	File   string // configuration file, "" for none
	Worker bool   // the variables that only a worker reads count, too
}

// Resolve reads the file, then the environment over it, and keeps above both what flags have set. An empty variable counts as not
// set. Everything that is wrong is one error, Problems.
func (s *Set) Resolve(from Source) error {
	s.Path = from.File
	flagged := s.flagged(from.Flags)
	var problems Problems
	if from.File != "" {
		problems = append(problems, s.readFile(from.File)...)
	}
	for i := range s.all {
		row := &s.all[i]
		if row.Env == "" || row.Worker && !from.Worker {
			continue
		}
		text := from.Getenv(row.Env)
		if text == "" {
			continue
		}
		if err := row.set(text); err != nil {
			problems = append(problems, fmt.Sprintf("%s: %v", row.Env, err))
			continue
		}
		s.found[i].origin = Environment
	}
	for i, text := range flagged {
		if err := s.all[i].set(text); err != nil {
			problems = append(problems, fmt.Sprintf("--%s: %v", s.all[i].Flag, err))
		}
		s.found[i].origin = Flag
	}
	problems = append(problems, s.twice()...)
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// flagged are the values that flags have set, by the index of the setting.
func (s *Set) flagged(flags *pflag.FlagSet) map[int]string {
	texts := make(map[int]string)
	for i := range s.all {
		row := &s.all[i]
		if row.Flag == "" {
			continue
		}
		if f := flags.Lookup(row.Flag); f != nil && f.Changed && f.Value == pflag.Value(row.Value) {
			texts[i] = row.Value.String()
		}
	}
	return texts
}

// set takes a value of a variable or of the file. What a secret is is never in the error.
func (s *Setting) set(text string) error {
	switch v := s.Value.(type) {
	case *listValue:
		v.again = false
	case *pathValue:
		if err := v.check(text); err != nil {
			return err
		}
	}
	err := s.Value.Set(text)
	if err != nil && s.Secret {
		return fmt.Errorf("its value is not valid; want %s", s.Value.wants())
	}
	return err
}

// FileSuffix ends the name of a setting that names the file of a secret.
const FileSuffix = "_file"

// twice refuses a secret that is said outright and also by a file: which of them is meant is not for a program to guess.
func (s *Set) twice() (problems Problems) {
	for i := range s.all {
		if !s.all[i].Secret || s.found[i].origin == Default {
			continue
		}
		for j := range s.all {
			if s.all[j].Name == s.all[i].Name+FileSuffix && s.found[j].origin != Default {
				_, first := s.Origin(i)
				_, second := s.Origin(j)
				problems = append(problems, fmt.Sprintf("%s (%s) and %s (%s) are both set; leave one of them out",
					s.all[i].Name, first, s.all[j].Name, second))
			}
		}
	}
	return problems
}

// Label names a setting of the table for an error text.
func (s *Set) Label(name string) string {
	for i := range s.all {
		if s.all[i].Name == name {
			return s.all[i].Label()
		}
	}
	return name
}

// names are those of all settings, and of all groups of them.
func (s *Set) names() (leaves map[string]int, groups map[string]bool) {
	leaves, groups = make(map[string]int, len(s.all)), make(map[string]bool)
	for i := range s.all {
		name := s.all[i].Name
		leaves[name] = i
		for at := strings.LastIndexByte(name, '.'); at > 0; at = strings.LastIndexByte(name[:at], '.') {
			groups[name[:at]] = true
		}
	}
	return leaves, groups
}
