package admin

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"strconv"
)

const (
	profilesPath = "/debug/pprof/"

	maxProfiles       = 2   // that are taken at one time
	maxProfileSeconds = 300 // that one may last
)

// profiles serves the runtime's profiles, a bounded number at a time.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(profilesPath, pprof.Index)
	mux.HandleFunc(profilesPath+"cmdline", pprof.Cmdline)
	mux.HandleFunc(profilesPath+"profile", pprof.Profile)
	mux.HandleFunc(profilesPath+"symbol", pprof.Symbol)
	mux.HandleFunc(profilesPath+"trace", pprof.Trace)
	room := make(chan struct{}, maxProfiles)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text := r.FormValue("seconds"); text != "" {
			seconds, err := strconv.ParseFloat(text, 64)
			if err != nil || !(seconds >= 0 && seconds <= maxProfileSeconds) { // NaN is refused too
				http.Error(w, fmt.Sprintf("seconds is %q; want a number up to %d", text, maxProfileSeconds), http.StatusBadRequest)
				return
			}
		}
		select {
		case room <- struct{}{}:
			defer func() { <-room }()
			mux.ServeHTTP(w, r)
		default:
			http.Error(w, fmt.Sprintf("%d profiles are being taken; wait for one to end", maxProfiles), http.StatusTooManyRequests)
		}
	})
}
