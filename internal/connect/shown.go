package connect

import (
	"fmt"
	"strings"

	"millrace/internal/codec"
	"millrace/pipeline/address"
)

// What people put into a setting by mistake may be a secret. These show values that are as they should be, and of others no more than
// what is wrong with them.

// shownAddrs are addresses, with commas between them.
func shownAddrs(text string) string {
	return shownItems(text, "(not host:port)", func(addr string) bool { return address.Check(TemporalTarget(addr)) == nil })
}

// shownKeys are the keys of the codec, with commas between them.
func shownKeys(text string) string {
	return shownItems(text, "(not ID=FILE)", func(key string) bool { return codec.CheckEntry(key) == nil })
}

func shownItems(text, instead string, valid func(string) bool) string {
	items := strings.Split(text, ",")
	for i := range items {
		if !valid(items[i]) {
			items[i] = instead
		}
	}
	return strings.Join(items, ",")
}

// shownCommand is the program of a command, and how many arguments it is given.
func shownCommand(text string) string {
	program, arguments, _ := strings.Cut(text, " ")
	if n := len(strings.Fields(arguments)); n > 0 {
		return fmt.Sprintf("%s (and %d arguments)", program, n)
	}
	return program
}
