package settings

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Print writes every setting with its value and where that came from. Of a secret it says only that it is set.
func (s *Set) Print(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "SETTING\tVALUE\tFROM")
	for i := range s.all {
		row := &s.all[i]
		origin, where := s.Origin(i)
		value := row.Value.String()
		if row.Shown != nil && value != "" {
			value = row.Shown(value)
		}
		if origin == Default {
			value = row.Default
		}
		if row.Secret && value != "" {
			value = "(set)"
		}
		if value == "" {
			value = "-"
		}
		fmt.Fprintf(out, "%s\t%s\t%s\n", row.Name, value, where)
	}
	return out.Flush()
}

// VariablesHelp lists variables and flags for a help text, a setting on each line, those that only a worker reads if worker is set.
func (s *Set) VariablesHelp(worker bool) string {
	var b strings.Builder
	out := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for i := range s.all {
		row := &s.all[i]
		if row.Env == "" || row.Worker && !worker {
			continue
		}
		fmt.Fprintf(out, "  %s\t%s\t%s\n", row.Env, row.flag(), row.Help)
	}
	_ = out.Flush() // a strings.Builder takes everything
	return strings.TrimSuffix(b.String(), "\n")
}

// flag is how the flag is written, "" without one.
func (s *Setting) flag() string {
	if s.Flag == "" {
		return ""
	}
	return "--" + s.Flag
}

// Markdown is the table for the documentation.
func (s *Set) Markdown() string {
	var b strings.Builder
	b.WriteString("| in the file | variable | flag | default | what |\n|---|---|---|---|---|\n")
	for i := range s.all {
		row := &s.all[i]
		help := strings.ReplaceAll(row.Help, "|", "\\|")
		if row.Worker {
			help += " (worker)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", code(row.Name), code(row.Env), code(row.flag()), code(row.Default), help)
	}
	return b.String()
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}
