"""Models with random weights for the tests: MLP, CNN with batch normalisation, transformer block, shape arithmetic."""

from __future__ import annotations

import numpy as np

from tests.oracle import oracle

onnx = oracle("onnx")


def parsed(text: str, weights: dict[str, np.ndarray]):
    """A ModelProto from onnx's text form, with initializers."""
    model = onnx.parser.parse_model(text)
    for name, a in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(a), name))
    onnx.checker.check_model(model)
    return model


def normal(rng: np.random.Generator, **shapes) -> dict[str, np.ndarray]:
    """float32 weights of about the size that keeps activations near 1."""
    return {k: (rng.standard_normal(s) / np.sqrt(max(1, int(np.prod(s[1:]))))).astype(np.float32) for k, s in shapes.items()}


def mlp(rng):
    return parsed(
        """<ir_version: 8, opset_import: ["" : 17]>
    mlp (float[batch, 23] x) => (float[batch, 5] y, float[batch, 31] h2) {
      a1 = Gemm<transB=1>(x, w1, b1)
      h1 = Relu(a1)
      a2 = MatMul(h1, w2)
      s2 = Add(a2, b2)
      h2 = Tanh(s2)
      a3 = Gemm<alpha=0.5, beta=2.0>(h2, w3, b3)
      y = Softmax<axis=-1>(a3)
    }""",
        normal(rng, w1=(17, 23), b1=(17,), w2=(17, 31), b2=(31,), w3=(31, 5), b3=(5,)),
    )


def cnn(rng):
    weights = normal(rng, k1=(6, 3, 3, 5), c1=(6,), k2=(8, 3, 3, 3), k3=(7, 8, 1, 1), scale=(6,), bias=(6,), mean=(6,), w=(7, 4))
    weights["var"] = rng.uniform(0.2, 2, 6).astype(np.float32)
    return parsed(
        """<ir_version: 8, opset_import: ["" : 17]>
    cnn (float[batch, 3, 13, 11] x) => (float[batch, 4] y) {
      a = Conv<pads=[1,2,1,2]>(x, k1, c1)
      n = BatchNormalization<epsilon=0.01>(a, scale, bias, mean, var)
      r = Relu(n)
      p = MaxPool<kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,0], ceil_mode=1>(r)
      d = Conv<group=2, strides=[1,2], auto_pad="SAME_UPPER", dilations=[1,1]>(p, k2)
      l = LeakyRelu<alpha=0.2>(d)
      v = AveragePool<kernel_shape=[2,2], pads=[0,1,0,1]>(l)
      e = Conv(v, k3)
      g = GlobalAveragePool(e)
      f = Flatten(g)
      y = MatMul(f, w)
    }""",
        weights,
    )


def transformer(rng, heads: int = 3, width: int = 24):
    """A block as exporters write it: heads split by Reshape with computed shapes, decomposed attention and GELU, layer norm by
    parts.
    """
    weights = normal(
        rng,
        wq=(width, width),
        wk=(width, width),
        wv=(width, width),
        wo=(width, width),
        w1=(width, 40),
        w2=(40, width),
        bq=(width,),
        b1=(40,),
        b2=(width,),
        g1=(width,),
        o1=(width,),
        g2=(width,),
        o2=(width,),
    )
    weights |= {
        "heads": np.array([0, 0, heads, -1]),
        "root2": np.float32(np.sqrt(2)),
        "half": np.float32(0.5),
        "one": np.float32(1),
        "scale": np.float32(1 / np.sqrt(width // heads)),
        "eps": np.float32(1e-5),
        "two": np.float32(2),
        "width": np.array([width]),
        "i0": np.array(0),
        "i1": np.array(1),
        "ax0": np.array([0]),
    }
    return parsed(
        """<ir_version: 8, opset_import: ["" : 17]>
    block (float[batch, time, 24] x, bool[batch, 1, 1, time] mask) => (float[batch, time, 24] y) {
      m1 = ReduceMean<axes=[-1]>(x)
      c1 = Sub(x, m1)
      s1 = Pow(c1, two)
      v1 = ReduceMean<axes=[-1]>(s1)
      e1 = Add(v1, eps)
      d1 = Sqrt(e1)
      n1 = Div(c1, d1)
      z1 = Mul(n1, g1)
      h = Add(z1, o1)
      q = MatMul(h, wq)
      qb = Add(q, bq)
      k = MatMul(h, wk)
      v = MatMul(h, wv)
      q4 = Reshape(qb, heads)
      k4 = Reshape(k, heads)
      v4 = Reshape(v, heads)
      qt = Transpose<perm=[0,2,1,3]>(q4)
      kt = Transpose<perm=[0,2,3,1]>(k4)
      vt = Transpose<perm=[0,2,1,3]>(v4)
      qs = Mul(qt, scale)
      a = MatMul(qs, kt)
      low = Constant<value_float=-10000.0>()
      masked = Where(mask, a, low)
      p = Softmax<axis=-1>(masked)
      o = MatMul(p, vt)
      ot = Transpose<perm=[0,2,1,3]>(o)
      shape = Shape(x)
      b = Gather(shape, i0)
      t = Gather(shape, i1)
      bu = Unsqueeze(b, ax0)
      tu = Unsqueeze(t, ax0)
      merged = Concat<axis=0>(bu, tu, width)
      om = Reshape(ot, merged)
      proj = MatMul(om, wo)
      r = Add(x, proj)
      h2 = LayerNormalization<axis=-1>(r, g2, o2)
      f = MatMul(h2, w1)
      fb = Add(f, b1)
      u = Div(fb, root2)
      er = Erf(u)
      ep = Add(er, one)
      gm = Mul(fb, ep)
      ge = Mul(gm, half)
      f2 = MatMul(ge, w2)
      f2b = Add(f2, b2)
      y = Add(r, f2b)
    }""",
        weights,
    )
