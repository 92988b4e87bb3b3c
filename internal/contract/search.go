package contract

import (
	"slices"
	"strings"

	"go.temporal.io/sdk/temporal"
)

// Search attributes of workflows. They are set only where the namespace has them: an unregistered one would be refused.
const (
	SearchPipeline      = "MillracePipeline"      // Keyword
	SearchState         = "MillraceState"         // Keyword, of a Pipeline
	SearchOpenIncidents = "MillraceOpenIncidents" // Int, of a Pipeline
)

// SearchAttributes are the names of all of them with their types, as `temporal operator search-attribute create` takes them.
func SearchAttributes() [][2]string {
	return [][2]string{{SearchPipeline, "Keyword"}, {SearchState, "Keyword"}, {SearchOpenIncidents, "Int"}}
}

// Searchable are the search attributes that a namespace has of ours.
type Searchable struct {
	Names []string `json:"names,omitempty"`
}

// Pipeline is the search attribute that finds what belongs to a pipeline; ok is false where there is none.
func (s Searchable) Pipeline(name string) (update temporal.SearchAttributeUpdate, ok bool) {
	return temporal.NewSearchAttributeKeyKeyword(SearchPipeline).ValueSet(name), slices.Contains(s.Names, SearchPipeline)
}

// Of are the search attributes that a workflow of a pipeline is started with.
func (s Searchable) Of(pipeline string) temporal.SearchAttributes {
	if update, ok := s.Pipeline(pipeline); ok {
		return temporal.NewSearchAttributes(update)
	}
	return temporal.SearchAttributes{}
}

// Standing are the search attributes that say how a pipeline stands.
func (s Searchable) Standing(state string, openIncidents int64) (updates []temporal.SearchAttributeUpdate) {
	if slices.Contains(s.Names, SearchState) {
		updates = append(updates, temporal.NewSearchAttributeKeyKeyword(SearchState).ValueSet(state))
	}
	if slices.Contains(s.Names, SearchOpenIncidents) {
		updates = append(updates, temporal.NewSearchAttributeKeyInt64(SearchOpenIncidents).ValueSet(openIncidents))
	}
	return updates
}

// OwnerOf is the pipeline that a workflow with this id belongs to: every id has it after the first colon.
func OwnerOf(workflowID string) string {
	if name, ok := CompactOf(workflowID); ok {
		return name
	}
	_, rest, _ := strings.Cut(workflowID, ":")
	name, _, _ := strings.Cut(rest, ":")
	return name
}
