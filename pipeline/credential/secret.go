package credential

import (
	"bytes"
	"fmt"
	"log/slog"
)

// Secret is a password or a key that was said outright or stands in a file. The zero Secret is none. It never shows itself,
// however it is printed.
type Secret struct {
	text *string // behind a pointer, so that a printed struct shows an address at most
	file *File
}

// Text is a secret that was said outright; the empty text is none.
func Text(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// InFile is a secret that stands in a file, without the line break at its end.
func InFile(path string) Secret { return Secret{file: NewFile(path, MaxSecretBytes)} }

// Given reports whether there is a secret.
func (s Secret) Given() bool { return s.text != nil || s.file != nil }

// Get returns the secret as it is now, "" for the zero Secret.
func (s Secret) Get() (string, error) {
	switch {
	case s.text != nil:
		return *s.text, nil
	case s.file == nil:
		return "", nil
	}
	data, err := s.file.Read()
	if err != nil {
		return "", err
	}
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(data) == 0 {
		return "", fmt.Errorf("%s holds nothing but a line break", s.file.Path())
	}
	return string(data), nil
}

// String says no more than that there is one.
func (s Secret) String() string {
	if !s.Given() {
		return ""
	}
	return "(set)"
}

// GoString is String.
func (s Secret) GoString() string { return s.String() }

// LogValue is String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
