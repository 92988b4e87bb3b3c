package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus/push"
)

// pushLimit bounds one push: a short run does not wait longer for a Pushgateway than this.
const pushLimit = 10 * time.Second

// Run is how a short run of a command went.
type Run struct {
	Command string // dev, feed, bench or replay
	Took    time.Duration
	Records int64 // fed, folded or read again; -1 when it is not known
	Failed  bool
}

// Push sends the run, and everything else that the registry has, to the Pushgateway at the address, in place of what an earlier run
// of the command on this instance has left there.
func (r *Registry) Push(ctx context.Context, address, instance string, run Run) error {
	gateway, err := gatewayOf(address)
	if err != nil {
		return err
	}
	r.sources.add(func(to *scrape) {
		to.set(runDuration, run.Took.Seconds(), run.Command)
		if run.Records >= 0 {
			to.set(runRecords, float64(run.Records), run.Command)
		}
		outcome := "ok"
		if run.Failed {
			outcome = "failed"
		}
		to.set(runOutcome, 1, run.Command, outcome)
	})
	ctx, cancel := context.WithTimeout(ctx, pushLimit)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	err = push.New(gateway, "millrace_"+run.Command).Client(client).Gatherer(r.registry).Grouping("instance", instance).PushContext(ctx)
	var failed *url.Error
	if errors.As(err, &failed) { // its text repeats the address, which may hold a password
		err = failed.Err
	}
	if err != nil {
		return fmt.Errorf("push metrics of %s: %w", run.Command, err)
	}
	return nil
}

// CheckPushgateway reports why an address is none of a Pushgateway. The text does not repeat it: it may hold a password.
func CheckPushgateway(address string) error {
	_, err := gatewayOf(address)
	return err
}

func gatewayOf(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", errors.New("the address of the Pushgateway cannot be read; want http://HOST:PORT or https://HOST:PORT")
	}
	return u.String(), nil
}
