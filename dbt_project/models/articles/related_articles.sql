-- The three articles that are nearest to each, by the meaning of their summaries.
with embedded as (

    -- Articles with the same summary have one vector; the first of them stands for all.
    select
        article_id,
        headline,
        embedding
    from {{ ref('articles_embedded') }}
    where enrichment_status = 'done'
    qualify row_number() over (partition by paragraph order by article_id) = 1

),

pairs as (

    select
        this.article_id,
        this.headline,
        other.article_id as related_id,
        other.headline as related_headline,
        array_cosine_similarity(this.embedding, other.embedding) as similarity
    from embedded as this
    inner join embedded as other on this.article_id <> other.article_id

)

select
    article_id,
    headline,
    row_number() over (partition by article_id order by similarity desc, related_id) as place,
    related_id,
    related_headline,
    round(similarity, 3) as similarity
from pairs
qualify place <= 3
order by article_id, place
