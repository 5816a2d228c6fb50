package netset

// A point is an ordered value with neighbours: an address, or a Key of the
// traffic space. Next and Prev at the end of the space return a value that
// equals no member of it.
type point[T any] interface {
	comparable
	Compare(T) int
	Next() T
	Prev() T
}

// Range is the inclusive interval From..To. From never exceeds To, and for
// addresses both ends are of one family.
type Range[T point[T]] struct{ From, To T }

// A run is a canonical list of ranges: sorted, disjoint, and merged where one
// ends right before the next begins. Two runs hold the same points exactly if
// they are equal element by element, which is what the exported types compare.
type run[T point[T]] []Range[T]

func (a run[T]) contains(p T) bool {
	lo, hi := 0, len(a)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if a[mid].To.Compare(p) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo < len(a) && a[lo].From.Compare(p) <= 0
}

// push appends r, which must not start before the last range of a, and keeps a
// canonical.
func (a run[T]) push(r Range[T]) run[T] {
	if n := len(a); n > 0 {
		last := &a[n-1]
		if last.To.Compare(r.From) >= 0 || last.To.Next() == r.From {
			if r.To.Compare(last.To) > 0 {
				last.To = r.To
			}
			return a
		}
	}
	return append(a, r)
}

func (a run[T]) union(b run[T]) run[T] {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	out := make(run[T], 0, len(a)+len(b))
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		if j == len(b) || i < len(a) && a[i].From.Compare(b[j].From) <= 0 {
			out = out.push(a[i])
			i++
		} else {
			out = out.push(b[j])
			j++
		}
	}
	return out
}

func (a run[T]) intersect(b run[T]) run[T] {
	var out run[T]
	for i, j := 0, 0; i < len(a) && j < len(b); {
		from, to := a[i].From, a[i].To
		if b[j].From.Compare(from) > 0 {
			from = b[j].From
		}
		if b[j].To.Compare(to) < 0 {
			to = b[j].To
		}
		if from.Compare(to) <= 0 {
			out = append(out, Range[T]{from, to})
		}
		if a[i].To.Compare(b[j].To) < 0 {
			i++
		} else {
			j++
		}
	}
	return out
}

func (a run[T]) subtract(b run[T]) run[T] {
	if len(a) == 0 || len(b) == 0 {
		return a
	}
	var out run[T]
	j := 0
	for _, r := range a {
		for j < len(b) && b[j].To.Compare(r.From) < 0 {
			j++
		}
		from, open := r.From, true
		for k := j; open && k < len(b) && b[k].From.Compare(r.To) <= 0; k++ {
			if b[k].From.Compare(from) > 0 {
				out = append(out, Range[T]{from, b[k].From.Prev()})
			}
			if open = b[k].To.Compare(r.To) < 0; open {
				from = b[k].To.Next()
			}
		}
		if open {
			out = append(out, Range[T]{from, r.To})
		}
	}
	return out
}

func (a run[T]) equal(b run[T]) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
