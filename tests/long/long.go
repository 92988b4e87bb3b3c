// Package long says whether tests take all of their input, or as much as shows the same in the time that every run of all tests has.
package long

import "os"

// Wanted reports whether MILLRACE_TEST_LONG asks for all of the input, and for outages as long as those in the field.
var Wanted = os.Getenv("MILLRACE_TEST_LONG") != ""

// Seeds returns how many seeds a randomized test runs: few in every run, many when all of the input is wanted.
func Seeds(few, many uint64) uint64 {
	if Wanted {
		return many
	}
	return few
}
