package probe

import (
	"errors"
	"fmt"
)

// A pathReader answers what a device path depends on. The live one asks the
// kernel and keeps each answer in the facts; the other finds it there. Above
// it, following a path is pure: the same answers give the same path.
type pathReader interface {
	// network returns a namespace's devices; the error says why it could not
	// be looked into.
	network(id string) (*Network, error)
	// route returns the kernel's answer, which may be an errno. The error says
	// why there is no answer.
	route(RouteQuery) (RouteAnswer, error)
	neighbour(NeighbourQuery) (NeighbourAnswer, error)
	// namespaces returns the ids of all that can be named, our own first.
	namespaces() []string
	// hidden returns how many namespaces exist that cannot be looked into.
	hidden() int
}

// recordedPath answers from facts alone.
type recordedPath struct {
	f          *Facts
	networks   map[string]*Network
	routes     map[RouteQuery]*RouteAnswer
	neighbours map[NeighbourQuery]*NeighbourAnswer
}

// newRecordedPath indexes the facts. Where a record holds two answers to one
// question, the first counts.
func newRecordedPath(f *Facts) *recordedPath {
	r := &recordedPath{
		f:          f,
		networks:   make(map[string]*Network, len(f.Networks)),
		routes:     make(map[RouteQuery]*RouteAnswer, len(f.Routes)),
		neighbours: make(map[NeighbourQuery]*NeighbourAnswer, len(f.Neighbours)),
	}
	for i := range f.Networks {
		n := &f.Networks[i]
		if r.networks[n.ID] == nil {
			r.networks[n.ID] = n
		}
	}
	for i := range f.Routes {
		a := &f.Routes[i]
		if r.routes[a.Query] == nil {
			r.routes[a.Query] = a
		}
	}
	for i := range f.Neighbours {
		a := &f.Neighbours[i]
		if r.neighbours[a.Query] == nil {
			r.neighbours[a.Query] = a
		}
	}
	return r
}

func (r *recordedPath) network(id string) (*Network, error) {
	n := r.networks[id]
	switch {
	case n == nil:
		return nil, fmt.Errorf("the record holds nothing about network namespace %q", id)
	case n.Error != "" && len(n.Links) == 0:
		return nil, errors.New(n.Error)
	}
	return n, nil
}

func (r *recordedPath) route(q RouteQuery) (RouteAnswer, error) {
	a := r.routes[q]
	if a == nil {
		return RouteAnswer{}, fmt.Errorf("the record holds no route to %s in %s", q.Dst, netName(q.Net))
	}
	return *a, nil
}

func (r *recordedPath) neighbour(q NeighbourQuery) (NeighbourAnswer, error) {
	a := r.neighbours[q]
	if a == nil {
		return NeighbourAnswer{}, errors.New("the record holds no such neighbour")
	}
	return *a, nil
}

func (r *recordedPath) namespaces() []string {
	ids := make([]string, 0, len(r.f.Networks))
	for _, n := range r.f.Networks {
		ids = append(ids, n.ID)
	}
	return ids
}

func (r *recordedPath) hidden() int { return r.f.Taps.NamespacesHidden }

// netName names a namespace in a sentence.
func netName(id string) string {
	if id == "" || id == ownNamespace {
		return "this network namespace"
	}
	return "network namespace " + id
}
