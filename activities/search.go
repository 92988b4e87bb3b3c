package activities

import (
	"context"
	"sync"
	"time"

	"go.temporal.io/api/operatorservice/v1"

	"millrace/internal/contract"
)

// searchRefresh is how long what a namespace has of search attributes is believed.
const searchRefresh = 10 * time.Minute

// Search knows which of our search attributes a namespace has. It is safe for concurrent use.
type Search struct {
	operator  func() operatorservice.OperatorServiceClient
	namespace string

	mu    sync.Mutex // guards the rest
	known contract.Searchable
	until time.Time
}

// NewSearch asks about a namespace; operator is the method of a Temporal client.
func NewSearch(operator func() operatorservice.OperatorServiceClient, namespace string) *Search {
	return &Search{operator: operator, namespace: namespace}
}

// SearchAttributes returns what the namespace has. A server that does not tell has none of them.
func (s *Search) SearchAttributes(ctx context.Context) (contract.Searchable, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.until) {
		return s.known, nil
	}
	answer, err := s.operator().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: s.namespace})
	if err != nil {
		return contract.Searchable{}, err
	}
	s.known, s.until = contract.Searchable{}, time.Now().Add(searchRefresh)
	for _, attribute := range contract.SearchAttributes() {
		if _, has := answer.GetCustomAttributes()[attribute[0]]; has {
			s.known.Names = append(s.known.Names, attribute[0])
		}
	}
	return s.known, nil
}

// Forget has the namespace asked again: it has refused what it had.
func (s *Search) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = time.Time{}
}
