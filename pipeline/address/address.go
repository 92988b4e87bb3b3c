// Package address checks the addresses of servers without repeating what may be secret in them, and finds out whether a
// server speaks TLS.
package address

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode"
)

// ErrCredentials is found in the error about an address that holds a user or a password.
var ErrCredentials = errors.New("it holds a user or a password")

// Check says what is wrong with an address, which has to be host:port. The error repeats the address only when nothing in
// it can be a secret.
func Check(addr string) error {
	if addr == "" {
		return errors.New("it is empty; want host:port")
	}
	if strings.Contains(addr, "@") {
		return fmt.Errorf("%w; want host:port", ErrCredentials)
	}
	if strings.Contains(addr, "://") {
		return errors.New("it is a URL; want host:port")
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		if harmless(addr) {
			return fmt.Errorf("%q has no port; want host:port", addr)
		}
		return errors.New("it is not host:port")
	}
	if strings.ContainsFunc(host, notOfAHost) {
		return errors.New("it is not host:port: the host has characters that no host has")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return errors.New("it is not host:port with a port from 1 to 65535")
	}
	return nil
}

// notOfAHost reports whether no host's name or IP address has the character.
func notOfAHost(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(".-_:%", r)
}

// harmless reports whether text is the name of a host and nothing more.
func harmless(text string) bool {
	for _, r := range text {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '-':
		default:
			return false
		}
	}
	return true
}
