package app

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"
)

// TemporalConfig is how a worker process reaches Temporal and what it calls itself there.
type TemporalConfig struct {
	// Client as read from Temporal's own environment and profile.
	Client client.Options
	// Worker names the process for people. Default: host name and process id.
	Worker string
	// Process identifies this life of the process; its host queue is named after it. Default: a new UUID.
	Process string
	// RetryFirst and RetryMost bound the pauses between tries while Temporal does not take workers. Defaults: 500 ms and 10 s.
	RetryFirst, RetryMost time.Duration
	// ReportsLimit is how many bytes ReportsFile may take. Default DefaultReportsLimit.
	ReportsLimit int64
	// NoWorkflowCache replays every workflow task from the start of its history. It is for tests: it holds for the whole process.
	NoWorkflowCache bool
}

// namespace is the one that the client uses.
func (c *TemporalConfig) namespace() string {
	return cmp.Or(c.Client.Namespace, client.DefaultNamespace)
}

// Validate applies defaults and names every option that is not valid.
func (c *TemporalConfig) Validate() error {
	if c.Worker == "" {
		name, err := os.Hostname()
		if err != nil {
			name = "worker"
		}
		c.Worker = fmt.Sprintf("%s:%d", name, os.Getpid())
	}
	if c.Process == "" {
		c.Process = uuid.NewString()
	}
	if c.RetryFirst == 0 {
		c.RetryFirst = 500 * time.Millisecond
	}
	if c.RetryMost == 0 {
		c.RetryMost = 10 * time.Second
	}
	if c.ReportsLimit == 0 {
		c.ReportsLimit = DefaultReportsLimit
	}
	var errs []error
	if c.ReportsLimit < LeastReportsLimit {
		errs = append(errs, fmt.Errorf("the reports limit is %d bytes; want at least %d", c.ReportsLimit, LeastReportsLimit))
	}
	if c.Client.HostPort == "" {
		errs = append(errs, errors.New("no Temporal: Client.HostPort is empty; set TEMPORAL_ADDRESS or give --temporal HOST:PORT"))
	}
	if c.RetryFirst < 0 || c.RetryMost < c.RetryFirst {
		errs = append(errs, fmt.Errorf("wrong Temporal options: RetryFirst is %s and RetryMost %s; want 0 < RetryFirst <= RetryMost",
			c.RetryFirst, c.RetryMost))
	}
	return errors.Join(errs...)
}
