package settings

import (
	"fmt"
	"time"

	"millrace/pipeline/spec"
)

// Duration is a duration in a flag or a variable, as specs write it: 90s, 10m, 1d.
type Duration time.Duration

// Set implements pflag.Value.
func (d *Duration) Set(text string) error {
	parsed, err := spec.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%w; want a number with its unit, such as 90s, 10m or 1d", err)
	}
	*d = Duration(parsed)
	return nil
}

// String implements pflag.Value; the zero value has no text, so that help shows no default.
func (d *Duration) String() string {
	if *d == 0 {
		return ""
	}
	return spec.Duration(*d).String()
}

// Type implements pflag.Value.
func (d *Duration) Type() string { return "duration" }
