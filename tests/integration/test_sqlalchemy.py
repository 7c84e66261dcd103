"""SQLAlchemy on psycopg: reflection, ORM, nested transactions, its pool with pre-ping."""

import select

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from tests.support.servers import wait_until


class Base(orm.DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "sa_author"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(50), unique=True)
    books: orm.Mapped[list["Book"]] = orm.relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "sa_book"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    title: orm.Mapped[str]
    author_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("sa_author.id"))
    author: orm.Mapped[Author] = orm.relationship(back_populates="books")


@pytest.fixture
def engine(pgpool, cluster):
    made = sa.create_engine(pgpool.url(driver="postgresql+psycopg"), pool_pre_ping=True, pool_size=3)
    Base.metadata.create_all(made)
    cluster.wait_for_catchup()
    yield made
    Base.metadata.drop_all(made)
    made.dispose()


def test_orm(engine, cluster):
    with orm.Session(engine) as session:
        session.add_all([Author(name=f"a{n}", books=[Book(title=f"b{n}{m}") for m in range(3)]) for n in range(5)])
        session.commit()
    cluster.wait_for_catchup()
    with orm.Session(engine) as session:
        authors = session.scalars(sa.select(Author).options(orm.selectinload(Author.books)).order_by(Author.id)).all()
        assert [len(a.books) for a in authors] == [3] * 5
        authors[0].name = "changed"
        session.delete(authors[1])
        session.flush()
        assert session.scalar(sa.select(sa.func.count()).select_from(Book)) == 12
        session.commit()
    cluster.wait_for_catchup()
    with orm.Session(engine) as session:
        assert session.scalar(sa.select(Author.name).where(Author.id == 1)) == "changed"


def test_nested_and_rollback(engine, postgres):
    with orm.Session(engine) as session:
        session.add(Author(name="one"))
        session.flush()
        with pytest.raises(sa.exc.IntegrityError), session.begin_nested():
            session.add(Author(name="one"))
            session.flush()
        session.add(Author(name="two"))
        session.commit()
        session.add(Author(name="three"))
        session.rollback()
    assert postgres.execute("SELECT name FROM sa_author ORDER BY id") == [("one",), ("two",)]


def test_reflection(engine):
    inspector = sa.inspect(engine)
    assert {"sa_author", "sa_book"} <= set(inspector.get_table_names())
    assert [c["name"] for c in inspector.get_columns("sa_book")] == ["id", "title", "author_id"]
    assert inspector.get_foreign_keys("sa_book")[0]["referred_table"] == "sa_author"
    assert inspector.get_unique_constraints("sa_author")


def test_bulk_returning(engine):
    with engine.begin() as conn:
        rows = conn.execute(sa.insert(Author).returning(Author.id), [{"name": f"n{n}"} for n in range(500)]).all()
    assert len(set(rows)) == 500


def test_stream_results(engine):
    with engine.connect().execution_options(stream_results=True, max_row_buffer=50) as conn:
        assert sum(r[0] for r in conn.execute(sa.text("SELECT g FROM generate_series(1, 1000) g"))) == 500500


def test_pre_ping_after_the_backend_is_killed(engine, postgres):
    with engine.connect() as conn:
        pid = conn.connection.driver_connection.info.backend_pid
        fd = conn.connection.driver_connection.fileno()
    postgres.execute(f"SELECT pg_terminate_backend({pid})")
    wait_until(lambda: select.select([fd], [], [], 0)[0], "the bad news to arrive at the pooled connection")
    with engine.connect() as conn:
        assert conn.scalar(sa.text("SELECT 1")) == 1


def test_autocommit_isolation(engine):
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(sa.text("VACUUM sa_author"))
    with engine.connect().execution_options(isolation_level="SERIALIZABLE") as conn:
        assert conn.scalar(sa.text("SHOW transaction_isolation")) == "serializable"
