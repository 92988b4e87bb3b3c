package source

import (
	"context"
	"time"

	"github.com/IBM/sarama"
)

// proofSlack is how long a reader may be away from the broker before it doubts that the log is still the same: between an
// answer and the next fetch, or while an answer is overdue. A topic cannot be deleted, made again and filled in less.
const proofSlack = 200 * time.Millisecond

// proof is what a fetcher knows about whose records its fetches bring. A fetch names its topic by name, so a topic that is
// made again answers with another log at the same offset. The fetcher's goroutine alone uses it.
//
// While fetches follow each other closely the log cannot change unnoticed: a broker that loses a partition answers the
// fetches that wait for it with an error. After every pause, error or step backwards the next batch is therefore held
// until the broker that sent it has named the topic's id once more, in answer to a request made after the fetch. That order
// is what makes it a proof: a broker that serves the new log knows the new id. Cached metadata never counts.
type proof struct {
	holds       bool
	at          time.Time // when the broker last answered a fetch, or was last asked for the id
	start, high int64     // of the log as of the last fetch
}

// seen takes note of an answer to a fetch and ends the proof where the log may have been replaced since the one before.
func (p *proof) seen(sent, arrived time.Time, block *sarama.FetchResponseBlock) {
	switch {
	case sent.Sub(p.at) > proofSlack, arrived.Sub(sent) > fetchWait+proofSlack:
		p.holds = false
	case block.LogStartOffset < p.start, block.HighWaterMarkOffset < p.high:
		p.holds = false // within one log both only grow, but for a change of leaders
	}
	p.at, p.start, p.high = arrived, block.LogStartOffset, block.HighWaterMarkOffset
}

// prove asks the broker that the fetches go to for the topic's id. A *OtherTopicError says that it is not the one the
// position belongs to; any other error that the broker has not said.
func (f *fetcher) prove(ctx context.Context) error {
	if f.cfg.TopicID == "" {
		return nil
	}
	began, asked := time.Now(), f.cfg.now()
	var resp *sarama.MetadataResponse
	err := f.cfg.Cluster.do(ctx, f.link, "metadata", func(b *sarama.Broker) (err error) {
		resp, err = b.GetMetadata(sarama.NewMetadataRequest(f.cfg.Cluster.conf.Version, []string{f.tp.Topic}))
		return err
	})
	if err != nil {
		f.link.wires.cut()
		return err
	}
	v, err := f.cfg.Cluster.learn(f.tp.Topic, resp, began)
	if err != nil {
		return err
	}
	if v.id != "" && v.id != f.cfg.TopicID {
		return &OtherTopicError{Topic: f.tp.Topic, Want: f.cfg.TopicID, Have: v.id}
	}
	f.proof.holds, f.proof.at = true, asked
	return nil
}
