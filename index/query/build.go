package query

// NewAnd joins queries so that all must match: operands that are an And are taken in, All falls away. Without operands it is All, with one
// it is that one.
func NewAnd(list ...Query) Query {
	var all And
	for _, q := range list {
		switch q := q.(type) {
		case All:
		case And:
			all = append(all, q...)
		default:
			all = append(all, q)
		}
	}
	switch len(all) {
	case 0:
		return All{}
	case 1:
		return all[0]
	}
	return all
}

// NewOr joins queries of which one must match: operands that are an Or are taken in, with All it is All. With one operand it is that one;
// without any, nothing matches, which is Not{All{}} and has no written form.
func NewOr(list ...Query) Query {
	var any Or
	for _, q := range list {
		switch q := q.(type) {
		case All:
			return All{}
		case Or:
			any = append(any, q...)
		default:
			any = append(any, q)
		}
	}
	switch len(any) {
	case 0:
		return Not{All{}}
	case 1:
		return any[0]
	}
	return any
}

// Walk visits q and all below it, each before its operands and these in order. Where visit gives false, its operands are left out.
func Walk(q Query, visit func(Query) bool) {
	if !visit(q) {
		return
	}
	switch q := q.(type) {
	case And:
		for _, o := range q {
			Walk(o, visit)
		}
	case Or:
		for _, o := range q {
			Walk(o, visit)
		}
	case Not:
		Walk(q.Query, visit)
	case Near:
		Walk(q.A, visit)
		Walk(q.B, visit)
	}
}
