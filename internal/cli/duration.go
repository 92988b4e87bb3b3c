package cli

import (
	"time"

	"millrace/internal/settings"
	"millrace/pipeline/spec"
)

// durationFlag is a duration as specs write it: 90s, 10m, 1d.
type durationFlag time.Duration

// Set implements pflag.Value.
func (d *durationFlag) Set(text string) error {
	return (*settings.Duration)(d).Set(text)
}

// String implements pflag.Value; the zero value has no text, so that help shows no default.
func (d *durationFlag) String() string { return (*settings.Duration)(d).String() }

// Type implements pflag.Value.
func (d *durationFlag) Type() string { return (*settings.Duration)(d).Type() }

// seconds is the duration in whole seconds. One that is none, or lies outside of least and most, is refused in the flag's name.
func (d *durationFlag) seconds(flag string, least, most time.Duration) (int, error) {
	std := time.Duration(*d)
	if std < least || std > most || std%time.Second != 0 {
		return 0, usagef("%s is %s; want whole seconds, %s to %s", flag, spec.Duration(*d), spec.Duration(least), spec.Duration(most))
	}
	return int(std / time.Second), nil
}
