package credential

import (
	"errors"
	"fmt"
	"sync"
)

// Part is one of the files that are parsed together.
type Part struct {
	Kind string // for error texts: "key file"
	File *File
}

// Parsed is what some files hold together, parsed once for each of their contents. While one of them cannot be read, or they do
// not parse, as in the middle of a rotation, what they held before stays in force. It is safe for concurrent use.
type Parsed[T any] struct {
	parts []Part
	parse func(contents [][]byte) (T, error)
	// outdated is told once of each new reason why what was held before stays in force; nil: nobody is.
	outdated func(error)

	mu       sync.Mutex // guards what follows
	contents [][]byte   // of which value was made; nil before that
	value    T
	told     string // the reason that outdated was last told
}

// NewParsed returns what the parts hold together. They are not read before Get. The text of an error of parse goes on behind the
// name of the first part. outdated may be nil.
func NewParsed[T any](parse func(contents [][]byte) (T, error), outdated func(error), parts ...Part) *Parsed[T] {
	return &Parsed[T]{parts: parts, parse: parse, outdated: outdated}
}

// Get returns what the files hold now, or what they held when they could last be read. An error means that there has been nothing
// yet; it names the file.
func (p *Parsed[T]) Get() (T, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.look()
	switch {
	case err == nil:
		p.told = ""
	case p.contents == nil:
		var none T
		return none, err
	case p.outdated != nil && err.Error() != p.told:
		p.told = err.Error()
		p.outdated(err)
	}
	return p.value, nil
}

// look follows the files. An error leaves the value as it is.
func (p *Parsed[T]) look() error {
	contents := make([][]byte, len(p.parts))
	var outdated []error
	for i, part := range p.parts {
		data, err := part.File.Read()
		if err != nil {
			return fmt.Errorf("%s: %w", part.Kind, err)
		}
		contents[i] = data
		if err := part.File.Outdated(); err != nil {
			outdated = append(outdated, fmt.Errorf("%s: %w", part.Kind, err))
		}
	}
	if p.contents == nil || !sameSlices(contents, p.contents) {
		value, err := p.parse(contents)
		if err != nil {
			return fmt.Errorf("%s %s %w", p.parts[0].Kind, p.parts[0].File.Path(), err)
		}
		p.contents, p.value = contents, value
	}
	return errors.Join(outdated...)
}

// sameSlices reports whether both hold the very same slices: a File returns a new one when it has been read again.
func sameSlices(a, b [][]byte) bool {
	for i := range a {
		if &a[i][0] != &b[i][0] {
			return false
		}
	}
	return true
}
