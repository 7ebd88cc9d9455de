"""Body of ``sparse_detr::MSDeformAttn``: bilinear sampling by gathering rows, the weighted sum as a matrix product.

Gathers instead of GridSample, because several TensorRT versions miscompile GridSample and because it holds for any
number of levels. Coordinates and softmax are float32 whatever the type of the inputs. The two axes are computed apart
on [B, Q, M, L·P], with L·P innermost: a broadcast over a last dimension of two is several times slower on the CPU.
"""

from __future__ import annotations

_HEAD = """
<domain: "sparse_detr", opset_import: ["" : 20]>
MSDeformAttn (value, spatial_shapes, reference_points, sampling_offsets, attention_logits) => (output)
{
    zero = Constant <value = float {0.0}> ()
    half = Constant <value = float {0.5}> ()
    one = Constant <value = float {1.0}> ()
    i_zero = Constant <value = int64 {0}> ()
    i_one = Constant <value = int64 {1}> ()
    v_zero = Constant <value = int64[1] {0}> ()
    v_one = Constant <value = int64[1] {1}> ()
    v_two = Constant <value = int64[1] {2}> ()
    v_three = Constant <value = int64[1] {3}> ()
    v_four = Constant <value = int64[1] {4}> ()
    v_last = Constant <value = int64[1] {-1}> ()
    v_ones = Constant <value = int64[3] {1, 1, 1}> ()
    v_one_sample_row = Constant <value = int64[4] {0, 0, 1, -1}> ()

    batch = Shape <start = 0, end = 1> (value)
    token_count = Shape <start = 1, end = 2> (value)
    heads = Shape <start = 2, end = 3> (value)
    channels = Shape <start = 3, end = 4> (value)
    queries = Shape <start = 1, end = 2> (sampling_offsets)
    points = Shape <start = 4, end = 5> (sampling_offsets)
    per_head = Concat <axis = 0> (batch, queries, heads, v_last)
    per_level = Concat <axis = 0> (v_one, points)
    each_point = Expand (one, points)

    shapes = Cast <to = 1> (spatial_shapes)
    height = Gather <axis = 1> (shapes, v_zero)
    width = Gather <axis = 1> (shapes, v_one)
    area = Mul (height, width)
    start = CumSum <exclusive = 1> (area, i_zero)
    width_points = Expand (width, per_level)
    width_flat = Reshape (width_points, v_last)
    start_points = Expand (start, per_level)
    start_flat = Reshape (start_points, v_last)

    references = Cast <to = 1> (reference_points)
    offsets = Cast <to = 1> (sampling_offsets)
    x_offset_points, y_offset_points = Split <axis = 5, num_outputs = 2> (offsets)
    reference_size = Shape <start = 3, end = 4> (reference_points)
    is_box = Equal (reference_size, v_four)
    x_extent_at = Sub (reference_size, v_two)
    y_extent_at = Sub (reference_size, v_one)
    points_float = Cast <to = 1> (points)
    half_per_point = Div (half, points_float)

    logits = Cast <to = 1> (attention_logits)
    weight = Softmax <axis = -1> (logits)
"""

# one axis: where the two neighbours of each sample lie, and how much each counts; @ is the axis
_AXIS = """
    @_centre_01 = Gather <axis = 3> (references, v_@)
    @_centre_pixels = Mul (@_centre_01, @_size)
    @_centre_corner = Sub (@_centre_pixels, half)
    @_centre_points = Mul (@_centre_corner, each_point)
    @_centre = Reshape (@_centre_points, v_one_sample_row)
    @_extent_01 = Gather <axis = 3> (references, @_extent_at)
    @_extent_pixels = Mul (@_extent_01, @_size)
    @_extent_point = Mul (@_extent_pixels, half_per_point)
    @_scale_any = Where (is_box, @_extent_point, one)
    @_scale_points = Mul (@_scale_any, each_point)
    @_scale = Reshape (@_scale_points, v_one_sample_row)
    @_offset = Reshape (@_offset_points, per_head)
    @_moved = Mul (@_offset, @_scale)
    @_location = Add (@_moved, @_centre)
    @_limit_level = Sub (@_size, one)
    @_limit_points = Expand (@_limit_level, per_level)
    @_limit = Reshape (@_limit_points, v_last)
    @_low = Floor (@_location)
    @_fraction = Sub (@_location, @_low)
    @_fraction_left = Sub (one, @_fraction)
    @_high = Add (@_low, one)
    @_low_floor = Max (@_low, zero)
    @_low_inside = Min (@_low_floor, @_limit)
    @_high_floor = Max (@_high, zero)
    @_high_inside = Min (@_high_floor, @_limit)
    @_low_is_inside = Equal (@_low, @_low_inside)
    @_high_is_inside = Equal (@_high, @_high_inside)
    @_low_weight = Where (@_low_is_inside, @_fraction_left, zero)
    @_high_weight = Where (@_high_is_inside, @_fraction, zero)
"""

_TAIL = """
    y_low_weighted = Mul (y_low_weight, weight)
    y_high_weighted = Mul (y_high_weight, weight)
    w00 = Mul (y_low_weighted, x_low_weight)
    w01 = Mul (y_low_weighted, x_high_weight)
    w10 = Mul (y_high_weighted, x_low_weight)
    w11 = Mul (y_high_weighted, x_high_weight)
    corner_weights = Concat <axis = -1> (w00, w01, w10, w11)

    y_low_cells = Mul (y_low_inside, width_flat)
    y_high_cells = Mul (y_high_inside, width_flat)
    y_low_row = Add (y_low_cells, start_flat)
    y_high_row = Add (y_high_cells, start_flat)
    t00 = Add (y_low_row, x_low_inside)
    t01 = Add (y_low_row, x_high_inside)
    t10 = Add (y_high_row, x_low_inside)
    t11 = Add (y_high_row, x_high_inside)
    corners = Concat <axis = -1> (t00, t01, t10, t11)
    corner_tokens = Cast <to = 7> (corners)

    batch_scalar = Squeeze (batch, v_zero)
    heads_scalar = Squeeze (heads, v_zero)
    head_range = Range (i_zero, heads_scalar, i_one)
    head_shape = Concat <axis = 0> (v_last, v_one)
    head_index = Reshape (head_range, head_shape)
    image_range = Range (i_zero, batch_scalar, i_one)
    image_size = Mul (token_count, heads)
    image_first = Mul (image_range, image_size)
    image_shape = Concat <axis = 0> (v_last, v_ones)
    image_row = Reshape (image_first, image_shape)
    first_row = Add (image_row, head_index)
    corner_rows = Mul (corner_tokens, heads)
    rows = Add (corner_rows, first_row)

    one_row = Concat <axis = 0> (batch, queries, heads, v_one, v_last)
    row_weights_float = Reshape (corner_weights, one_row)
    row_weights = CastLike (row_weights_float, value)
    table_shape = Concat <axis = 0> (v_last, channels)
    table = Reshape (value, table_shape)
    sampled = Gather <axis = 0> (table, rows)
    summed = MatMul (row_weights, sampled)
    output_width = Mul (heads, channels)
    output_shape = Concat <axis = 0> (batch, queries, output_width)
    output = Reshape (summed, output_shape)
}
"""


def _axis(name: str, size: str, index: str) -> str:
    return _AXIS.replace("v_@", index).replace("@_size", size).replace("@", name)


MS_DEFORM_ATTN = _HEAD + _axis("x", "width", "v_zero") + _axis("y", "height", "v_one") + _TAIL
