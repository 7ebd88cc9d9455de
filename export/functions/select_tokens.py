"""Body of ``sparse_detr::SelectTokens``: TopK, own indices repeated where an image keeps fewer, then ascending."""

SELECT_TOKENS = """
<domain: "sparse_detr", opset_import: ["" : 20]>
SelectTokens (scores, num_keep) => (indices)
{
    i_zero = Constant <value = int64 {0}> ()
    i_one = Constant <value = int64 {1}> ()
    v_zero = Constant <value = int64[1] {0}> ()
    v_one = Constant <value = int64[1] {1}> ()
    most = ReduceMax <keepdims = 1> (num_keep)
    sorted_scores, sorted_indices = TopK <axis = 1, largest = 1, sorted = 1> (scores, most)
    most_scalar = Squeeze (most, v_zero)
    positions_1d = Range (i_zero, most_scalar, i_one)
    positions = Unsqueeze (positions_1d, v_zero)
    counts = Unsqueeze (num_keep, v_one)
    own_positions = Mod (positions, counts)
    shape = Shape (sorted_indices)
    expanded = Expand (own_positions, shape)
    chosen = GatherElements <axis = 1> (sorted_indices, expanded)
    indices, order = TopK <axis = 1, largest = 0, sorted = 1> (chosen, most)
}
"""
