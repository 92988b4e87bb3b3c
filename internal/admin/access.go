package admin

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"millrace/pipeline/credential"
)

// minToken is the least length of a token: 16 bytes of base64 have 22.
const minToken = 16

// access decides who may ask. /healthz and /readyz are outside: orchestrators probe them without credentials.
type access struct {
	token        *credential.Parsed[[sha256.Size]byte] // nil without a token
	clientCert   bool                                  // a verified certificate is wanted
	loopbackOnly bool
}

// guard wants the credentials that are set.
func (a *access) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.clientCert && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
			http.Error(w, "give a client certificate that the admin listener's client CA has signed", http.StatusUnauthorized)
			return
		}
		if a.token != nil && !a.hasToken(r) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "give the admin listener's token: Authorization: Bearer TOKEN", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// guardProfiles refuses profiles to a network that need not say who it is.
func (a *access) guardProfiles(next http.Handler) http.Handler {
	if !a.loopbackOnly && a.token == nil && !a.clientCert {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "profiles are refused: the admin listener is open beyond loopback and wants no credentials; "+
				"set a token file (admin.token_file) or a client CA (admin.tls.client_ca), or bind it to loopback", http.StatusForbidden)
		})
	}
	return a.guard(next)
}

// hasToken compares hashes, so that neither content nor length shows in the time it takes.
func (a *access) hasToken(r *http.Request) bool {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	want, err := a.token.Get()
	if err != nil {
		return false
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(given)))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(sum[:], want[:]) == 1
}

func parseToken(contents [][]byte) (sum [sha256.Size]byte, err error) {
	token := bytes.TrimSpace(contents[0])
	if len(token) < minToken {
		return sum, fmt.Errorf("holds %d characters; want at least %d", len(token), minToken)
	}
	if bytes.ContainsAny(token, " \t\r\n") {
		return sum, errors.New("holds spaces or lines; want one word")
	}
	return sha256.Sum256(token), nil
}
