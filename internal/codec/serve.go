package codec

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"millrace/pipeline/credential"
)

// maxBody bounds a request: a page of a history has 4 MB at most, and JSON makes a third more of it.
const maxBody = 16 << 20

// Endpoint answers Temporal's command line and UI, which keep no keys: POST /encode and /decode with payloads as JSON.
type Endpoint struct {
	Keys *Keys
	// Origins are the UIs whose pages may ask, as browsers name them: http://localhost:8233. None: no page may.
	Origins []string
	// Token has to be in every request, as Authorization: Bearer TOKEN. The zero Secret wants none.
	Token credential.Secret
}

// ServeHTTP implements http.Handler.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	origin := r.Header.Get("Origin")
	if origin != "" {
		if !slices.Contains(e.Origins, origin) {
			http.Error(w, "pages from there may not ask: name them in --origin", http.StatusForbidden)
			return
		}
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Namespace")
		w.Header().Set("Access-Control-Allow-Methods", http.MethodPost)
		w.Header().Add("Vary", "Origin")
	}
	switch {
	case r.Method == http.MethodOptions && origin != "": // a browser asks whether it may ask
		w.WriteHeader(http.StatusNoContent)
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "want POST /encode or POST /decode", http.StatusMethodNotAllowed)
	case !e.allowed(r):
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "want Authorization: Bearer TOKEN", http.StatusUnauthorized)
	case strings.HasSuffix(r.URL.Path, "/encode"):
		answer(w, r, e.Keys.Encode)
	case strings.HasSuffix(r.URL.Path, "/decode"):
		answer(w, r, e.Keys.Decode)
	default:
		http.Error(w, "want POST /encode or POST /decode", http.StatusNotFound)
	}
}

// allowed reports whether the request has the token.
func (e *Endpoint) allowed(r *http.Request) bool {
	if !e.Token.Given() {
		return true
	}
	token, err := e.Token.Get()
	said, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return err == nil && ok && subtle.ConstantTimeCompare([]byte(said), []byte(strings.TrimSpace(token))) == 1
}

// answer converts the payloads of a request.
func answer(w http.ResponseWriter, r *http.Request, convert func([]*commonpb.Payload) ([]*commonpb.Payload, error)) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		http.Error(w, fmt.Sprintf("the request has more than %d bytes", large.Limit), http.StatusRequestEntityTooLarge)
		return
	}
	var in commonpb.Payloads
	if err == nil {
		err = protojson.Unmarshal(body, &in)
	}
	if err != nil {
		http.Error(w, "want payloads as JSON", http.StatusBadRequest)
		return
	}
	out, err := convert(in.GetPayloads())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	text, err := protojson.Marshal(&commonpb.Payloads{Payloads: out})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // whoever asked has gone
}
